"""The threshold rule that reaches a budget: a ranking, a ramp, hysteresis, an early freeze."""

from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ramda_cli.optimizers import Threshold, ZeroTest
from ramda_cli.training.budget import Budget, Mask
from ramda_cli.training.device_budget import DeviceBudget

WARM_UP_END = 0.02
"""Share of the run after which the first channel may go: the ranking needs some batches."""

RAMP_END = 0.3
"""Share of the run over which the budget comes down from dense to the target."""

HYSTERESIS = 1.0
"""A zero channel revives only where its score exceeds the threshold by this much more."""


def gone_along_ramp(progress: Any) -> Any:
    """Return which share of what has to go is gone, of a cubic ramp (Zhu and Gupta, 2017).

    Args:
        progress: in [0, 1], a number or a tensor.
    """
    return 1.0 - (1.0 - progress) ** 3


class ZeroSetRule(Protocol):
    """A rule whose zero set comes down to a budget and then stays."""

    @property
    def zero(self) -> Mask:
        """The zero set of the last step; reads it back from the device."""
        ...

    @property
    def macs_share(self) -> float:
        """MACs without the zero set, as a share of dense; reads the set back from the device."""
        ...

    @property
    def frozen(self) -> bool:
        """Whether the zero set no longer changes."""
        ...

    def pass_over(self) -> None:
        """Count a step that was not taken."""

    def __call__(self, test: ZeroTest) -> Threshold:
        """Return the zero set and the shrinkage of the other channels."""
        ...


class ConstantRule:
    """Zeroes the same channels in every step, and shrinks none.

    Args:
        zero: which channels.
        macs_share: MACs without them, as a share of dense.
    """

    def __init__(self, zero: Mask, *, macs_share: float) -> None:
        self._zero = torch.from_numpy(zero)
        self.macs_share = macs_share
        self.frozen = True

    def pass_over(self) -> None:
        """Do nothing: every step is alike."""

    @property
    def zero(self) -> Mask:
        """The zero set."""
        return self._zero.cpu().numpy()

    def __call__(self, test: ZeroTest) -> Threshold:
        """Return the zero set; channels that do not move in this step stay as they are."""
        self._zero = self._zero.to(test.crit.device)
        return Threshold(self._zero & torch.isfinite(test.crit), torch.zeros_like(test.crit))


class BudgetRule:
    """Zeroes the channels that the loss needs least for what they cost, until within the budget.

    A channel's score is Σ ⟨g, x⟩² over the steps so far, the squared first-order change of the loss
    if it were zero (Molchanov et al., CVPR 2019, eq. 8), divided by what it saves of the budget.
    The survivors are not shrunk: shrinkage costs more accuracy than the choice of channels does,
    and the zero set is decided by the budget already.

    In the step `freeze_step` the set is filled up on the host until hardly less is left than asked
    for, and from then on it stays. Before that step nothing is read back from the device.

    Args:
        budget: what to come down to.
        warm_up_steps: before the first channel goes.
        ramp_steps: at which the budget is reached, counted from the first step.
        freeze_step: whose zero set stays, at least `ramp_steps`.
    """

    def __init__(
        self, budget: Budget, *, warm_up_steps: int, ramp_steps: int, freeze_step: int
    ) -> None:
        if freeze_step < ramp_steps:
            raise ValueError(
                f"freeze_step must be at least ramp_steps, {ramp_steps}, got {freeze_step}"
            )
        self._budget = budget
        self._warm_up_steps = min(warm_up_steps, ramp_steps - 1)
        self._ramp_steps = ramp_steps
        self._freeze_step = freeze_step
        channels = int(budget.cost.channels.sum())
        self._calls = 0
        self._step = torch.zeros((), dtype=torch.float64)
        self._zero = torch.zeros(channels, dtype=torch.bool)
        self._importance = torch.zeros(channels, dtype=torch.float64)
        self._on_device: DeviceBudget | None = None

    @property
    def zero(self) -> Mask:
        """The zero set of the last step; reads it back from the device."""
        return self._zero.cpu().numpy()

    @property
    def macs_share(self) -> float:
        """MACs without the zero set, as a share of dense; reads the set back from the device."""
        return self._budget.macs_share(self.zero)

    @property
    def frozen(self) -> bool:
        """Whether the zero set no longer changes."""
        return self._calls >= self._freeze_step

    def __call__(self, test: ZeroTest) -> Threshold:
        """Choose the zero set of this step."""
        if not self.frozen:
            self._choose(test)
        return Threshold(self._zero, torch.zeros_like(test.crit))

    def pass_over(self) -> None:
        """Count a step that was not taken; if it is that of the freeze, the next one freezes."""
        if self._calls + 1 < self._freeze_step:
            self._calls += 1
            self._step += 1

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to go on as this one."""
        return {"step": self._calls, "zero": self._zero, "importance": self._importance}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._calls = state["step"]
        self._step.fill_(state["step"])
        self._zero = state["zero"].to(self._zero.device, copy=True)
        self._importance = state["importance"].to(self._importance.device, copy=True)

    def _choose(self, test: ZeroTest) -> None:
        budget = self._move_to(test.crit.device)
        self._calls += 1
        self._step += 1
        self._importance += test.change().double().square()
        scores = self._scores(test, budget.saving)
        if self.frozen:
            picked = self._budget.settle(scores.cpu().numpy())
            self._zero = torch.from_numpy(picked).to(scores.device)
            return
        chosen = budget.choose(scores, self._counts(budget))
        self._zero = torch.where(self._step > self._warm_up_steps, chosen, self._zero)

    def _move_to(self, device: torch.device) -> DeviceBudget:
        if self._on_device is None or self._zero.device != device:
            self._on_device = DeviceBudget(self._budget, device)
            self._step, self._zero = self._step.to(device), self._zero.to(device)
            self._importance = self._importance.to(device)
        return self._on_device

    def _scores(
        self, test: ZeroTest, saving: Float[Tensor, " channels"]
    ) -> Float[Tensor, " channels"]:
        """Return what each channel is worth; infinite where it saves nothing or does not move."""
        moves = (saving > 0) & torch.isfinite(test.crit)
        worth = torch.where(moves, self._importance / saving, torch.inf)
        return worth / (1.0 + HYSTERESIS * test.was_zero)

    def _counts(self, budget: DeviceBudget) -> Float[Tensor, " limits"]:
        """Return the budget of this step."""
        passed = self._step - self._warm_up_steps
        progress = (passed / (self._ramp_steps - self._warm_up_steps)).clamp(max=1.0)
        gone = gone_along_ramp(progress)
        return (budget.dense - gone * (budget.dense - budget.counts)).round()
