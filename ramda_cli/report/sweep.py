"""A sweep over targets as data: every run, and which of them no other beats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats in both, by ascending MACs."""
    front: list[Point] = []
    for point in sorted(points, key=lambda each: (each.macs_share, -each.worth)):
        if not front or point.worth > front[-1].worth:
            front.append(point)
    return front
