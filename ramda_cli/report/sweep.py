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


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """All runs so far."""

    schema: Literal[1] = SCHEMA
    model: str
    points: tuple[Point, ...]


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats in both, by ascending MACs."""
    front: list[Point] = []
    for point in sorted(points, key=lambda each: (each.macs_share, -each.pruned)):
        if not front or point.pruned > front[-1].pruned:
            front.append(point)
    return front
