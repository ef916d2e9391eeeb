"""Which channels to zero, and which ranks to leave out, so that what is left costs what was asked.

Channels are taken in ascending order of a score, in blocks where widths are not free, until the
cost of the rest is down to the budget. The cost of a set is not a sum over its channels (a
convolution costs the product of what it reads and writes), so it is computed for the set. A weight
that may lose ranks counts as a group of them.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from ramda_cli.config.schema import TargetConfig
from ramda_cli.errors import TargetError
from ramda_cli.structure.cost import CostModel
from ramda_cli.structure.size_terms import Counts
from ramda_cli.structure.widths import Widths, free_widths
from ramda_cli.training.blocks import Blocks

Costs = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

Measure = Callable[[Counts], float | None]

_CLOSE = 0.005
"""A set within this share below the budget is taken at once."""

_MEASURED_CLOSE = 0.03
"""The same for a cost that is measured, which is repeated no better than that."""

_MOST_TRIES = 6

_KINDS = {"heads", "ffn"}
"""Metrics that count channels of one kind, and nothing of the others."""

_UNITS = {"size_mb": 10**6, "latency": 10**6}
"""What a megabyte and a millisecond are of the units that are counted: bytes and nanoseconds."""


@dataclass(frozen=True)
class Limit:
    """What one cost must come down to.

    Attributes:
        metric: as `CostModel.measure` knows it.
        dense: the cost with all channels.
        count: the cost asked for.
        measured: the cost of a model of so many channels in each group, where what `CostModel`
            says of it is an estimate; None where that is the truth. It may not be measurable, and
            is None then.
    """

    metric: str
    dense: int
    count: int
    measured: Measure | None = None


@dataclass(frozen=True, eq=False)
class Budget:
    """Costs to come down to.

    Attributes:
        limits: at least one; all of them hold in the end.
        floor: channels of each group that always stay, at least 1; an allowed width.
        cost: the model's cost as a function of kept channels.
        widths: which are allowed.
    """

    limits: tuple[Limit, ...]
    floor: npt.NDArray[np.int64]
    cost: CostModel
    widths: Widths

    @property
    def counts(self) -> Costs:
        """What each limit allows."""
        return np.array([limit.count for limit in self.limits], dtype=np.int64)

    @property
    def dense(self) -> Costs:
        """What each limit's metric costs with all channels."""
        return np.array([limit.dense for limit in self.limits], dtype=np.int64)

    @property
    def share(self) -> float:
        """Of dense, what the tightest limit allows."""
        return float((self.counts / self.dense).min())

    @cached_property
    def saving(self) -> Scores:
        """What each channel saves when it alone goes, in shares of what must be saved; never < 0.

        With several limits their sum. For ranks 0: `rank_saving` has theirs.
        """
        saved = np.zeros(self.floor.size)
        for group in range(self.floor.size - len(self.cost.matrices)):
            without = self.cost.channels.copy()
            without[group] -= 1
            saved[group] = self._shares(self.dense - self._measure(without)).sum()
        return saved[self.group_of_channel]

    @cached_property
    def rank_saving(self) -> tuple[Scores, Scores]:
        """What each matrix saves by its first block of ranks, and what by each rank after it.

        In shares of what must be saved, as `saving`.
        """
        first_groups = self.floor.size - len(self.cost.matrices)
        saved = np.zeros((2, len(self.cost.matrices)))
        for number in range(len(self.cost.matrices)):
            kept = self.cost.channels.copy()
            before = self._measure(kept)
            for step, count in enumerate((self.widths.most, self.widths.most - 1)):
                kept[first_groups + number] = max(0, count[first_groups + number])
                after = self._measure(kept)
                saved[step, number] = self._shares(before - after).sum()
                before = after
        return saved[0], saved[1]

    def _shares(self, saves: Costs) -> Scores:
        """Return savings in shares of what must be saved; never negative."""
        to_save = self.dense - self.counts
        return np.maximum(0, saves[to_save > 0]) / to_save[to_save > 0]

    @cached_property
    def parts(self) -> tuple["Budget", ...]:
        """One budget for each limit, where every limit is of one kind of channels alone."""
        if not {limit.metric for limit in self.limits} <= _KINDS or len(self.limits) < 2:
            return ()
        return tuple(replace(self, limits=(limit,)) for limit in self.limits)

    @cached_property
    def in_scope(self) -> Mask:
        """Which channels any of the limits depends on."""
        groups = np.logical_or.reduce([self.cost.depends_on(x.metric) for x in self.limits])
        return groups[self.group_of_channel]

    @property
    def group_of_channel(self) -> npt.NDArray[np.int64]:
        """The group's number for every channel, one group after the other."""
        return np.repeat(np.arange(self.floor.size), self.cost.channels.astype(np.int64))

    def of(self, zero: Mask) -> Costs:
        """Return the costs without these channels."""
        return self._measure(self._kept(zero))

    def macs_share(self, zero: Mask) -> float:
        """Return the MACs without these channels as a share of dense, whatever is budgeted."""
        return self.cost.macs(self._kept(zero)) / max(1, self.cost.macs(self.cost.channels))

    def choose(self, scores: Scores, counts: Costs, *, exact: bool = False) -> Mask:
        """Return the channels to zero: lowest scores first, until the rest costs no more.

        Args:
            scores: of every channel; infinite ones stay.
            counts: the costs to come down to.
            exact: look beyond the order for the last channels, so that the rest costs hardly
                less than `counts` even where one channel is a large step.
        """
        if self.parts:
            each = [
                part.choose(scores, counts[[at]], exact=exact) for at, part in enumerate(self.parts)
            ]
            return np.logical_or.reduce(each)
        blocks = self._removable_blocks(np.where(self.in_scope, scores, np.inf))
        low, high = 0, len(blocks)
        while low < high:
            middle = (low + high) // 2
            if self._excess(self._mask(blocks[:middle]), counts) <= 0:
                high = middle
            else:
                low = middle + 1
        chosen = self._mask(blocks[:low])
        if not exact or low == 0 or self._excess(chosen, counts) >= -_CLOSE:
            return chosen
        filled = self._fill(self._mask(blocks[: low - 1]), blocks[low - 1 :], counts)
        return self._give_back(filled, blocks, counts)

    def settle(self, scores: Scores) -> Mask:
        """Return the final choice, as exactly as its cost can be told.

        Where a cost is an estimate the smaller model is measured, and the choice made again for
        what makes up for the estimate's error, until what is measured is close below what is asked.
        """
        zero = best = self.choose(scores, self.counts, exact=True)
        estimated = [at for at, limit in enumerate(self.limits) if limit.measured is not None]
        least = (True, math.inf)
        for _ in range(_MOST_TRIES if estimated else 0):
            ratios = self._measured_ratios(zero)
            if ratios is None:
                break
            over = float(ratios.max() - 1)
            if (over > 0, abs(over)) < least:
                best, least = zero, (over > 0, abs(over))
            if -_MEASURED_CLOSE <= over <= 0:
                break
            counts = self.counts
            aimed = self.of(zero)[estimated] / ratios * (1 - _MEASURED_CLOSE / 2)
            counts[estimated] = np.round(aimed)
            last, zero = zero, self.choose(scores, counts, exact=True)
            if np.array_equal(zero, last):
                break
        return best

    def _measured_ratios(self, zero: Mask) -> Scores | None:
        """Return measured over asked, of the costs that are measured; None where one cannot be."""
        kept = self._kept(zero)
        ratios = []
        for limit in self.limits:
            if limit.measured is not None:
                cost = limit.measured(kept)
                if cost is None:
                    return None
                ratios.append(cost / limit.count)
        return np.array(ratios)

    def _fill(self, zero: Mask, candidates: list[npt.NDArray[np.int64]], counts: Costs) -> Mask:
        """Add blocks in order, passing over those that would undershoot, until close enough.

        The first of the candidates is known to be enough.
        """
        best, closest = zero, -math.inf
        passed_over: set[int] = set()
        for block in candidates:
            family = int(self.widths.family[self.group_of_channel[block[0]]])
            if family in passed_over:
                continue  # blocks of a family go in their order
            trial = zero.copy()
            trial[block] = True
            excess = self._excess(trial, counts)
            if excess > 0:
                zero = trial
                continue
            passed_over.add(family)
            if excess > closest:
                best, closest = trial, excess
            if excess >= -_CLOSE:
                return trial
        return best

    def _give_back(self, zero: Mask, blocks: list[npt.NDArray[np.int64]], counts: Costs) -> Mask:
        """Keep blocks after all, the best first, as long as there is room and it is not close."""
        kept_back: set[int] = set()
        for block in reversed(blocks):
            if self._excess(zero, counts) >= -_CLOSE:
                break
            family = int(self.widths.family[self.group_of_channel[block[0]]])
            if family in kept_back or not zero[block].all():
                continue
            trial = zero.copy()
            trial[block] = False
            if self._excess(trial, counts) > 0:
                kept_back.add(family)  # blocks of a family come back in the order they went
                continue
            zero = trial
        return zero

    def _excess(self, zero: Mask, counts: Costs) -> float:
        """Return by which share the limit that is furthest from being met is exceeded."""
        return float(((self.of(zero) - counts) / np.maximum(counts, 1)).max())

    def _measure(self, kept: Counts) -> Costs:
        costs = [self.cost.measure(limit.metric, kept) for limit in self.limits]
        return np.array(costs, dtype=np.int64)

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
    cost: CostModel,
    target: TargetConfig,
    *,
    floor: float,
    widths: Widths | None = None,
    references: Mapping[str, float] | None = None,
    measured: Mapping[str, Measure] | None = None,
) -> Budget:
    """Turn a target into a budget.

    Args:
        cost: the model's.
        target: what is counted, and how much of it.
        floor: share of each group that stays.
        widths: which are allowed; every one when not given.
        references: of which an amount is a share, by metric, where that is not the dense cost.
        measured: what tells the cost of a model, by metric, where `cost` has an estimate.

    Raises:
        TargetError: a target is not below the dense cost, or cannot be reached.
    """
    widths = free_widths(cost.channels.tolist()) if widths is None else widths
    least = widths.at_least(np.ceil(floor * cost.channels).astype(np.int64))
    limits = tuple(
        replace(
            _limit(cost, metric, amount, least, widths, (references or {}).get(metric)),
            measured=(measured or {}).get(metric),
        )
        for metric, amount in target.amounts.items()
    )
    return Budget(limits, least, cost, widths)


def _limit(
    cost: CostModel,
    metric: str,
    amount: float,
    least: npt.NDArray[np.int64],
    widths: Widths,
    reference: float | None,
) -> Limit:
    name, unit = metric.replace("_", "-"), _UNITS.get(metric, 1)
    dense = cost.measure(metric, cost.channels)
    if dense == 0:
        raise TargetError(
            f"the model has no {name} that can go",
            hint="ask for another metric, such as --target params=0.5",
        )
    whole = dense if reference is None else reference
    # A share is what was written: 0.043 of 5,000 is 215, and 214 in binary.
    share = math.floor(Decimal(repr(amount)) * Decimal(whole))
    count = share if amount <= 1 else round(amount * unit)
    reachable = cost.measure(metric, least.astype(np.float64))

    def shown(value: int) -> str:
        return f"{value:,}" if unit == 1 else f"{value / unit:.4g}"

    asked = f"{name}={amount:g}" if amount <= 1 else f"{name}={shown(count)}"
    if count > dense:
        raise TargetError(
            f"target {asked} is more than the model has: {shown(dense)} {name}",
            hint=f"ask for less, for example --target {name}=0.5",
        )
    if count < reachable:
        offer = f"ask for --target {name}={_share(reachable, whole)} or more"
        what = "rank and removable channel" if cost.matrices else "removable channel"
        raise TargetError(
            f"target {asked} cannot be reached: with every {what} gone down to the "
            f"floor, {shown(reachable)} of {shown(dense)} {name} are left",
            hint=offer + _other_ways(cost, metric, count, reachable, widths, whole),
        )
    return Limit(metric, dense, count)


def _other_ways(
    cost: CostModel, metric: str, count: int, reachable: int, widths: Widths, whole: float
) -> str:
    """Return what a lower floor would do for a target that cannot be reached."""
    one_each = np.ones_like(widths.channels)
    least = cost.measure(metric, widths.at_least(one_each).astype(np.float64))
    if least <= count:
        return ", or lower --floor"
    if cost.measure(metric, one_each.astype(np.float64)) <= count:
        return ", or lower --floor and --round-to"
    return f"; --floor 0 would give {_share(least, whole)}" if least < reachable else ""


def _share(count: int, whole: float) -> str:
    return f"{math.ceil(1000 * count / whole) / 1000:g}"
