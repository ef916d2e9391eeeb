"""The rule of ranks: which singular values to leave out so that what is left costs what was asked.

Zeroing the singular value σ_i of Y = √a ∘ X ∘ √b moves X by an amount whose squared size in the
metric a bᵀ is σ_i². With a and b the row and column sums of the squared gradients of all steps so
far, over the root of their total, that is, as far as a product can tell, the sum over steps of the
squared first-order change of the loss: what ranks a channel too. Divided by what the rank saves it
is comparable across layers, and with channels.

A matrix saves nothing before its rank is down to where two factors have fewer entries. Its first
ranks therefore go together with as many of the next as make them worth the least for what they
save, so that within a matrix the worth never falls (a lower convex hull).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ramda_cli.optimizers import Threshold, ZeroTest
from ramda_cli.training.budget import Budget, Mask, Scores
from ramda_cli.training.rules import HYSTERESIS, gone_along_ramp

_LEAST_SCALE = 1e-3
"""Of the largest √a: rows of no gradient are not free to change."""


class RankBudgetRule:
    """Chooses ranks, and with them channels, until within a budget along a ramp, and then stays.

    Works on the host: singular values are read back from the device in the steps in which they are
    taken, every `every`-th.

    Args:
        budget: what to come down to; its `cost` knows the matrices.
        warm_up_steps: before the first rank goes.
        ramp_steps: at which the budget is reached, counted from the first step.
        freeze_step: whose ranks and channels stay, at least `ramp_steps`.
        every: steps between two choices.
        by_norm: whether singular values of the weights themselves are ranked, a and b being 1: what
            is usually done at once and without data.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        warm_up_steps: int,
        ramp_steps: int,
        freeze_step: int,
        every: int,
        by_norm: bool = False,
    ) -> None:
        if freeze_step < ramp_steps:
            raise ValueError(
                f"freeze_step must be at least ramp_steps, {ramp_steps}, got {freeze_step}"
            )
        self._budget = budget
        self._matrices = budget.cost.matrices
        self._ramp_steps = ramp_steps
        self._freeze_step = freeze_step
        self._every = every
        self._by_norm = by_norm
        units = budget.cost.channels.astype(np.int64)
        self._channels = int(units[: units.size - len(self._matrices)].sum())
        # Channels are told apart from the second step on.
        least = 1 if self._channels else 0
        self._warm_up_steps = min(max(least, warm_up_steps), ramp_steps - 1)
        self._step = 0
        self._zero: Mask = np.zeros(int(units.sum()), dtype=bool)
        self._importance = torch.zeros(self._channels, dtype=torch.float64)
        self._moves = np.ones(self._channels, dtype=bool)
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}

    @property
    def zero(self) -> Mask:
        """The zero channels of the last step."""
        return self._zero[: self._channels]

    @property
    def macs_share(self) -> float:
        """MACs of what is left, as a share of dense."""
        return self._budget.macs_share(self._zero)

    @property
    def frozen(self) -> bool:
        """Whether channels and ranks no longer change."""
        return self._step >= self._freeze_step

    def pass_over(self) -> None:
        """Count a step that was not taken; if it is that of the freeze, the next one freezes."""
        if self._step + 1 < self._freeze_step:
            self._step += 1

    @property
    def due(self) -> bool:
        """Whether ranks are chosen in this step."""
        passed = self._step - self._warm_up_steps
        return self._step == self._freeze_step or (passed > 0 and (passed - 1) % self._every == 0)

    def take(self, gradients: Mapping[str, Tensor]) -> None:
        """Count the step, and add the squared gradients of the matrices to their sums."""
        self._step += 1
        for name, gradient in gradients.items():
            squares = gradient.flatten(1).float().square()
            if self._by_norm:
                squares = torch.ones_like(squares)
            rows, cols = squares.sum(1), squares.sum(0)
            if name in self._sums:
                before = self._sums[name]
                rows, cols = rows + before[0].to(rows), cols + before[1].to(cols)
            self._sums[name] = rows, cols

    def metric(self, name: str) -> tuple[Tensor, Tensor]:
        """Return √a and √b."""
        rows, cols = self._sums[name]
        total = rows.sum().sqrt().clamp_min(torch.finfo(rows.dtype).tiny)
        return _root(rows / total), _root(cols / total)

    def choose(self, squares: Mapping[str, Tensor]) -> Mapping[str, int]:
        """Choose ranks and channels; after the freeze those that were chosen in it."""
        if self._step <= self._freeze_step:
            scores = self._scores(squares)
            if self._step == self._freeze_step:
                self._zero = self._budget.settle(scores)
            else:
                self._zero = self._budget.choose(scores, self._counts())
        return self._ranks()

    def __call__(self, test: ZeroTest) -> Threshold:
        """Return the channels that were chosen, and add to what each one is worth."""
        if self._step <= self._freeze_step:
            self._importance += test.change().double().square().cpu()
        zero = torch.from_numpy(self.zero).to(test.crit.device)
        moves = torch.isfinite(test.crit)
        self._moves = moves.cpu().numpy()
        return Threshold(zero & moves, torch.zeros_like(test.crit))

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to go on as this one."""
        zero = torch.from_numpy(self._zero)
        return {
            "step": self._step, "zero": zero, "importance": self._importance, "sums": self._sums,
            "moves": torch.from_numpy(self._moves),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._step = state["step"]
        self._zero = state["zero"].numpy().copy()
        self._importance = state["importance"].clone()
        self._moves = state["moves"].numpy().copy()
        self._sums = {name: (a.clone(), b.clone()) for name, (a, b) in state["sums"].items()}

    def _ranks(self) -> dict[str, int]:
        gone = np.bincount(
            self._budget.group_of_channel[self._zero], minlength=self._budget.floor.size
        )
        return {
            matrix.parameter: matrix.full_rank - int(count)
            for matrix, count in zip(self._matrices, gone[-len(self._matrices) :], strict=True)
        }

    def _scores(self, squares: Mapping[str, Tensor]) -> Scores:
        """Return what each channel and rank is worth; infinite where it saves nothing."""
        saving = self._budget.saving[: self._channels]
        importance = self._importance.numpy() / (1.0 + HYSTERESIS * self.zero)
        of_channels = np.full(self._channels, np.inf)
        np.divide(importance, saving, out=of_channels, where=(saving > 0) & self._moves)
        scores = [of_channels]
        for matrix, first, each, most in zip(
            self._matrices,
            *self._budget.rank_saving,
            self._budget.widths.most[-len(self._matrices) :],
            strict=True,
        ):
            worth = squares.get(matrix.parameter)
            if worth is None or each <= 0:
                scores.append(np.full(matrix.full_rank, np.inf))
                continue
            ascending = np.sort(worth.double().cpu().numpy())
            scores.append(hull(ascending, int(matrix.full_rank - most), first, each))
        return np.concatenate(scores)

    def _counts(self) -> np.ndarray[Any, Any]:
        """Return the budget of this step."""
        passed = self._step - self._warm_up_steps
        progress = min(1.0, passed / (self._ramp_steps - self._warm_up_steps))
        gone = gone_along_ramp(progress)
        budget = self._budget
        return np.round(budget.dense - gone * (budget.dense - budget.counts)).astype(np.int64)


class HeldRanks:
    """Keeps the ranks that weights have, in the metric of the identity.

    Args:
        ranks: by parameter.
    """

    def __init__(self, ranks: Mapping[str, int]) -> None:
        self._ranks = ranks
        self._ones: dict[str, tuple[Tensor, Tensor]] = {}
        self.due = True

    def take(self, gradients: Mapping[str, Tensor]) -> None:
        """Look at the shapes; singular values are taken once."""
        self.due = not self._ones
        for name, gradient in gradients.items() if self.due else ():
            matrix = gradient.flatten(1)
            self._ones[name] = torch.ones_like(matrix[:, 0]), torch.ones_like(matrix[0])

    def metric(self, name: str) -> tuple[Tensor, Tensor]:
        """Return ones."""
        return self._ones[name]

    def choose(self, squares: Mapping[str, Tensor]) -> Mapping[str, int]:
        """Return the ranks."""
        del squares
        return self._ranks

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: what was looked at once is not looked at again."""
        return {"ones": self._ones}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._ones = {name: (a.clone(), b.clone()) for name, (a, b) in state["ones"].items()}


def hull(worth: Scores, first: int, first_saving: float, saving: float) -> Scores:
    """Return the worth per saving of each rank, such that it never falls in the order they go.

    Args:
        worth: of each rank, ascending; they go in this order.
        first: so many go at once, at first.
        first_saving: what these save together.
        saving: what each one after them saves.
    """
    gone = np.arange(first, worth.size + 1)
    saved = first_saving + saving * (gone - first)
    ratios = np.cumsum(worth)[first - 1 :] / np.maximum(saved, np.finfo(np.float64).tiny)
    best = int(ratios.argmin())
    together = first + best
    return np.concatenate([np.full(together, ratios[best]), worth[together:] / saving])


def _root(scale: Tensor) -> Tensor:
    root = scale.sqrt()
    return root.clamp_min(_LEAST_SCALE * float(root.max())).clamp_min(torch.finfo(root.dtype).tiny)
