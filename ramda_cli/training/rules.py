"""The threshold rule that reaches a budget: a ramp, hysteresis, an early freeze."""

import numpy as np
import torch

from ramda_cli.optimizers import Threshold, ZeroTest
from ramda_cli.training.budget import Budget, Mask

RAMP_END = 0.3
"""Share of the run over which the budget comes down from dense to the target."""

HYSTERESIS = 1.0
"""A zero channel revives only where crit exceeds the threshold by this much more."""


class BudgetRule:
    """Zeroes the channels of least crit until the rest is within the budget of the moment.

    Λ at a quantile of crit = ‖w‖/√n zeroes exactly the channels below it. The survivors are not
    shrunk: shrinkage costs more accuracy than the choice of channels does, and the
    zero set is decided by the budget already. After `freeze` the set no longer changes.

    Args:
        budget: what to come down to.
        ramp_steps: over which it comes down.
    """

    def __init__(self, budget: Budget, *, ramp_steps: int) -> None:
        self._budget = budget
        self._ramp_steps = ramp_steps
        self._step = 0
        self._zero: Mask = np.zeros(int(budget.cost.channels.sum()), dtype=bool)
        self._frozen = False

    @property
    def zero(self) -> Mask:
        """The zero set of the last step."""
        return self._zero

    @property
    def macs_share(self) -> float:
        """MACs without the zero set, as a share of dense."""
        return self._budget.macs_share(self._zero)

    def freeze(self) -> None:
        """Keep the zero set as it is from now on."""
        self._frozen = True

    def __call__(self, test: ZeroTest) -> Threshold:
        """Choose the zero set of this step."""
        self._step += 1
        if not self._frozen:
            crit = test.crit.double().cpu().numpy()
            scores = crit / (1.0 + HYSTERESIS * test.was_zero.cpu().numpy())
            ramped = self._step >= self._ramp_steps
            self._zero = self._budget.choose(scores, self._count(), exact=ramped)
        zero = torch.from_numpy(self._zero).to(test.crit.device)
        return Threshold(zero, torch.zeros_like(test.crit))

    def _count(self) -> int:
        """Return the budget of this step, by a cubic ramp (Zhu and Gupta, 2017)."""
        progress = min(1.0, self._step / self._ramp_steps)
        gone = 1.0 - (1.0 - progress) ** 3
        return round(self._budget.dense - gone * (self._budget.dense - self._budget.count))
