"""A sweep over targets as data: every run, and which of them no other beats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from ramda_cli.report.document import SCHEMA


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run.

    Attributes:
        directory: of the run, in that of the sweep.
        asked: amounts by metric.
        method, seed: of the run.
        macs_share, params_share: what is left, of dense.
        metric: name of the accuracy.
        dense: before training; null when the head was replaced.
        pruned: after the removal.
        unchanged: whether it is that before the removal, to the last digit.
        met: whether the target was.
        is_share: whether the metric is in [0, 1].
        higher_is_better: whether more of it is.
    """

    directory: str
    asked: Mapping[str, float]
    method: str
    seed: int
    macs_share: float
    params_share: float
    metric: str
    dense: float | None = None
    pruned: float
    unchanged: bool
    met: bool
    is_share: bool = True
    higher_is_better: bool = True

    @property
    def worth(self) -> float:
        """The metric, negative where less of it is better."""
        return self.pruned if self.higher_is_better else -self.pruned


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """All runs so far."""

    schema: Literal[1] = SCHEMA
    model: str
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class OverSeeds:
    """The runs of one target and method, which differ in their seeds.

    Attributes:
        asked, method: of all of them.
        runs: how many.
        macs_share, params_share: means of what is left, of dense.
        pruned: mean of the metric.
        standard_error: of that mean.
        is_share: whether the metric is in [0, 1].
    """

    asked: Mapping[str, float]
    method: str
    runs: int
    macs_share: float
    params_share: float
    pruned: float
    standard_error: float
    is_share: bool


def over_seeds(points: Sequence[Point]) -> list[OverSeeds]:
    """Return the means where a target and method has several seeds, in the order of the runs."""
    alike: dict[tuple[object, ...], list[Point]] = {}
    for point in points:
        alike.setdefault((point.method, *sorted(point.asked.items())), []).append(point)
    return [
        OverSeeds(
            asked=runs[0].asked,
            method=runs[0].method,
            runs=len(runs),
            macs_share=fmean(run.macs_share for run in runs),
            params_share=fmean(run.params_share for run in runs),
            pruned=fmean(run.pruned for run in runs),
            standard_error=stdev(run.pruned for run in runs) / len(runs) ** 0.5,
            is_share=runs[0].is_share,
        )
        for runs in alike.values()
        if len(runs) > 1
    ]


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats in both, by ascending MACs."""
    front: list[Point] = []
    for point in sorted(points, key=lambda each: (each.macs_share, -each.worth)):
        if not front or point.worth > front[-1].worth:
            front.append(point)
    return front
