"""The threshold rule that reaches a budget: a ranking, a ramp, hysteresis, an early freeze."""

import numpy as np
import torch

from ramda_cli.optimizers import Threshold, ZeroTest
from ramda_cli.training.budget import Budget, Mask, Scores

WARM_UP_END = 0.02
"""Share of the run after which the first channel may go: the ranking needs some batches."""

RAMP_END = 0.3
"""Share of the run over which the budget comes down from dense to the target."""

HYSTERESIS = 1.0
"""A zero channel revives only where its score exceeds the threshold by this much more."""


class BudgetRule:
    """Zeroes the channels that the loss needs least for what they cost, until within the budget.

    A channel's score is Σ ⟨g, x⟩² over the steps so far, the squared first-order change of the loss
    if it were zero (Molchanov et al., CVPR 2019, eq. 8), divided by what it saves of the budget.
    The survivors are not shrunk: shrinkage costs more accuracy than the choice of channels does,
    and the zero set is decided by the budget already. After `freeze` the set no longer changes.

    Args:
        budget: what to come down to.
        warm_up_steps: before the first channel goes.
        ramp_steps: at which the budget is reached, counted from the first step.
    """

    def __init__(self, budget: Budget, *, warm_up_steps: int, ramp_steps: int) -> None:
        self._budget = budget
        self._warm_up_steps = min(warm_up_steps, ramp_steps - 1)
        self._ramp_steps = ramp_steps
        self._step = 0
        channels = int(budget.cost.channels.sum())
        self._zero: Mask = np.zeros(channels, dtype=bool)
        self._importance: Scores = np.zeros(channels)
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
            self._importance += test.change().double().square().cpu().numpy()
            if self._step > self._warm_up_steps:
                ramped = self._step >= self._ramp_steps
                self._zero = self._budget.choose(self._scores(test), self._count(), exact=ramped)
        zero = torch.from_numpy(self._zero).to(test.crit.device)
        return Threshold(zero, torch.zeros_like(test.crit))

    def _scores(self, test: ZeroTest) -> Scores:
        """Return what each channel is worth; infinite where it saves nothing or does not move."""
        saving = self._budget.saving
        worth = np.full_like(saving, np.inf)
        np.divide(self._importance, saving, out=worth, where=saving > 0)
        worth[~np.isfinite(test.crit.cpu().numpy())] = np.inf
        return worth / (1.0 + HYSTERESIS * test.was_zero.cpu().numpy())

    def _count(self) -> int:
        """Return the budget of this step, by a cubic ramp (Zhu and Gupta, 2017)."""
        passed = self._step - self._warm_up_steps
        progress = min(1.0, passed / (self._ramp_steps - self._warm_up_steps))
        gone = 1.0 - (1.0 - progress) ** 3
        return round(self._budget.dense - gone * (self._budget.dense - self._budget.count))
