"""Which channels to zero so that what is left costs what was asked.

Channels are taken in ascending order of a score until the cost of the rest is down to the budget.
The cost of a set is not a sum over its channels (a convolution costs the product of what it reads
and writes), so it is computed for the set.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ramda_cli.config.schema import TargetConfig
from ramda_cli.errors import TargetError
from ramda_cli.structure.cost import CostModel, Counts

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
        floor: channels of each group that always stay, at least 1.
        cost: the model's cost as a function of kept channels.
    """

    metric: str
    dense: int
    count: int
    floor: npt.NDArray[np.int64]
    cost: CostModel

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
        order = self._removable_order(scores)
        low, high = 0, order.size
        while low < high:
            middle = (low + high) // 2
            if self.of(self._mask(order[:middle])) <= count:
                high = middle
            else:
                low = middle + 1
        chosen = self._mask(order[:low])
        if not exact or low == 0 or self.of(chosen) >= (1 - _CLOSE) * count:
            return chosen
        return self._fill(self._mask(order[: low - 1]), order[low - 1 :], count)

    def _fill(self, zero: Mask, candidates: npt.NDArray[np.int64], count: int) -> Mask:
        """Add channels in order, passing over those that would undershoot, until close enough."""
        best: Mask | None = None
        for channel in candidates:
            trial = zero.copy()
            trial[channel] = True
            cost = self.of(trial)
            if cost > count:
                zero = trial
                continue
            if best is None or cost > self.of(best):
                best = trial
            if cost >= (1 - _CLOSE) * count:
                return trial
        return zero if best is None else best

    def _removable_order(self, scores: Scores) -> npt.NDArray[np.int64]:
        """Return removable channels by ascending score; the best of each group stay."""
        order = np.argsort(scores, kind="stable")
        groups = self.group_of_channel[order]
        limit = self.cost.channels.astype(np.int64) - self.floor
        by_group = np.argsort(groups, kind="stable")
        rank = np.empty(order.size, dtype=np.int64)
        sizes = self.cost.channels.astype(np.int64)
        starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
        rank[by_group] = np.arange(order.size) - starts
        return order[(rank < limit[groups]) & np.isfinite(scores[order])]

    def _mask(self, channels: npt.NDArray[np.int64]) -> Mask:
        mask = np.zeros(int(self.cost.channels.sum()), dtype=bool)
        mask[channels] = True
        return mask

    def _kept(self, zero: Mask) -> Counts:
        gone = np.bincount(self.group_of_channel[zero], minlength=self.floor.size)
        return self.cost.channels - gone


def plan_budget(cost: CostModel, target: TargetConfig, *, floor: float) -> Budget:
    """Turn a target into a budget.

    Raises:
        TargetError: the target is not below the dense cost, or cannot be reached.
    """
    dense = cost.measure(target.metric, cost.channels)
    count = math.floor(target.amount * dense) if target.amount <= 1 else round(target.amount)
    least = np.maximum(np.ceil(floor * cost.channels), 1).astype(np.int64)
    budget = Budget(target.metric, dense, count, least, cost)
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
            hint=f"ask for --target {target.metric}={share:g} or more, or lower --floor",
        )
    return budget
