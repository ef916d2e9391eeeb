"""Which channels to zero so that what is left costs what was asked.

Channels are taken in ascending order of a score, in blocks where widths are not free, until the
cost of the rest is down to the budget. The cost of a set is not a sum over its channels (a
convolution costs the product of what it reads and writes), so it is computed for the set.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from ramda_cli.config.schema import TargetConfig
from ramda_cli.errors import TargetError
from ramda_cli.structure.cost import CostModel, Counts
from ramda_cli.structure.widths import Widths, free_widths
from ramda_cli.training.blocks import Blocks

Scores = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_CLOSE = 0.005
"""A set within this share below the budget is taken at once."""


@dataclass(frozen=True, eq=False)
class Budget:
    """A cost to come down to.

    Attributes:
        metric: `macs`, `params` or `channels`.
        dense: the cost with all channels.
        count: the cost asked for.
        floor: channels of each group that always stay, at least 1; an allowed width.
        cost: the model's cost as a function of kept channels.
        widths: which are allowed.
    """

    metric: str
    dense: int
    count: int
    floor: npt.NDArray[np.int64]
    cost: CostModel
    widths: Widths

    @cached_property
    def saving(self) -> Scores:
        """What each channel saves when it alone goes; never negative."""
        saved = []
        for group in range(self.floor.size):
            without = self.cost.channels.copy()
            without[group] -= 1
            saved.append(max(0, self.dense - self.cost.measure(self.metric, without)))
        return np.array(saved, dtype=np.float64)[self.group_of_channel]

    @property
    def group_of_channel(self) -> npt.NDArray[np.int64]:
        """The group's number for every channel, one group after the other."""
        return np.repeat(np.arange(self.floor.size), self.cost.channels.astype(np.int64))

    def of(self, zero: Mask) -> int:
        """Return the cost without these channels."""
        return self.cost.measure(self.metric, self._kept(zero))

    def macs_share(self, zero: Mask) -> float:
        """Return the MACs without these channels as a share of dense, whatever is budgeted."""
        return self.cost.macs(self._kept(zero)) / max(1, self.cost.macs(self.cost.channels))

    def choose(self, scores: Scores, count: int, *, exact: bool = False) -> Mask:
        """Return the channels to zero: lowest scores first, until the rest costs `count` or less.

        Args:
            scores: of every channel; infinite ones stay.
            count: the cost to come down to.
            exact: look beyond the order for the last channels, so that the rest costs hardly
                less than `count` even where one channel is a large step.
        """
        blocks = self._removable_blocks(scores)
        low, high = 0, len(blocks)
        while low < high:
            middle = (low + high) // 2
            if self.of(self._mask(blocks[:middle])) <= count:
                high = middle
            else:
                low = middle + 1
        chosen = self._mask(blocks[:low])
        if not exact or low == 0 or self.of(chosen) >= (1 - _CLOSE) * count:
            return chosen
        return self._fill(self._mask(blocks[: low - 1]), blocks[low - 1 :], count)

    def _fill(self, zero: Mask, candidates: list[npt.NDArray[np.int64]], count: int) -> Mask:
        """Add blocks in order, passing over those that would undershoot, until close enough."""
        best: Mask | None = None
        passed_over: set[int] = set()
        for block in candidates:
            family = int(self.widths.family[self.group_of_channel[block[0]]])
            if family in passed_over:
                continue  # blocks of a family go in their order
            trial = zero.copy()
            trial[block] = True
            cost = self.of(trial)
            if cost > count:
                zero = trial
                continue
            passed_over.add(family)
            if best is None or cost > self.of(best):
                best = trial
            if cost >= (1 - _CLOSE) * count:
                return trial
        return zero if best is None else best

    def _removable_blocks(self, scores: Scores) -> list[npt.NDArray[np.int64]]:
        """Return blocks of channels by ascending score; the best of each group stay."""
        blocks = Blocks(self.widths, torch.device("cpu"))
        ranked = torch.from_numpy(scores)
        worth, number = (found.numpy() for found in blocks(ranked))
        limit = (self.widths.channels - self.floor)[self.group_of_channel]
        moves = (blocks.rank(ranked).numpy() < limit) & np.isfinite(worth)
        order = np.lexsort((number, worth))
        order = order[moves[order]]
        return np.split(order, np.flatnonzero(np.diff(number[order])) + 1) if order.size else []

    def _mask(self, blocks: list[npt.NDArray[np.int64]]) -> Mask:
        mask = np.zeros(int(self.cost.channels.sum()), dtype=bool)
        if blocks:
            mask[np.concatenate(blocks)] = True
        return mask

    def _kept(self, zero: Mask) -> Counts:
        gone = np.bincount(self.group_of_channel[zero], minlength=self.floor.size)
        return self.cost.channels - gone


def plan_budget(
    cost: CostModel, target: TargetConfig, *, floor: float, widths: Widths | None = None
) -> Budget:
    """Turn a target into a budget.

    Args:
        cost: the model's.
        target: what is counted, and how much of it.
        floor: share of each group that stays.
        widths: which are allowed; every one when not given.

    Raises:
        TargetError: the target is not below the dense cost, or cannot be reached.
    """
    dense = cost.measure(target.metric, cost.channels)
    count = math.floor(target.amount * dense) if target.amount <= 1 else round(target.amount)
    widths = free_widths(cost.channels.tolist()) if widths is None else widths
    least = widths.at_least(np.ceil(floor * cost.channels).astype(np.int64))
    budget = Budget(target.metric, dense, count, least, cost, widths)
    reachable = cost.measure(target.metric, least.astype(np.float64))
    amount = f"{target.amount:g}" if target.amount <= 1 else f"{count:,}"
    asked = f"{target.metric}={amount}"
    if count > dense:
        raise TargetError(
            f"target {asked} is more than the model has: {dense:,} {target.metric}",
            hint=f"ask for less, for example --target {target.metric}=0.5",
        )
    if count < reachable:
        share = math.ceil(1000 * reachable / dense) / 1000
        raise TargetError(
            f"target {asked} cannot be reached: with every removable channel gone down to the "
            f"floor, {reachable:,} of {dense:,} {target.metric} are left",
            hint=f"ask for --target {target.metric}={share:g} or more, or lower --floor"
            + ("" if widths.free else " or --round-to"),
        )
    return budget
