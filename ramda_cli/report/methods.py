"""Methods side by side as data: every run, and what the runs of a method have in common."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from ramda_cli.report.document import SCHEMA, EpochEntry


@dataclass(frozen=True, kw_only=True)
class MethodRun:
    """One run.

    Attributes:
        directory: of the run, in that of the comparison.
        label: of the method.
        seed: of the run.
        metric: name of what validation measures.
        value: of it, in the end.
        structure: weighted group sparsity or low-rank level in the end; null without either.
        removed: share of the parameters that were taken out.
        seconds_per_epoch: of training.
        unchanged: whether the removal left the metric as it was, to the last digit.
        is_share, higher_is_better: of the metric.
        history: of the training.
    """

    directory: str
    label: str
    seed: int
    metric: str
    value: float
    structure: float | None
    removed: float
    seconds_per_epoch: float | None
    unchanged: bool
    is_share: bool = True
    higher_is_better: bool = True
    history: tuple[EpochEntry, ...] = ()

    @property
    def structure_deviation(self) -> float | None:
        """Standard deviation of the structure over the last tenth of the epochs, at least three."""
        last = last_tenth(entry.epoch for entry in self.history)
        levels = [structure_of(entry) for entry in self.history if entry.epoch in last]
        known = [level for level in levels if level is not None]
        return stdev(known) if len(known) > 2 else None


def last_tenth(epochs: Iterable[int]) -> range:
    """Return the last tenth of the epochs up to the last of these, at least three of them."""
    last = max(epochs, default=0)
    return range(last - max(3, math.ceil(last / 10)) + 1, last + 1)


def structure_of(entry: EpochEntry) -> float | None:
    """Return the weighted group sparsity of an epoch; where there is none, its low-rank level."""
    return entry.low_rank_level if entry.group_sparsity is None else entry.group_sparsity


@dataclass(frozen=True, kw_only=True)
class MethodComparison:
    """All runs so far.

    Attributes:
        name: of the configuration.
        model, data: of every run.
        epochs: of every run.
        structure: what the level of structure is called.
        device: that was computed on.
    """

    schema: Literal[1] = SCHEMA
    name: str
    model: str
    data: str
    epochs: int
    structure: str
    device: str
    runs: tuple[MethodRun, ...]

    def of(self, label: str) -> list[MethodRun]:
        """Return the runs of a method."""
        return [run for run in self.runs if run.label == label]

    @property
    def labels(self) -> list[str]:
        """The methods, in the order of the file."""
        return list(dict.fromkeys(run.label for run in self.runs))


@dataclass(frozen=True)
class Measured:
    """A mean over seeds; the deviation is None for one alone."""

    mean: float
    deviation: float | None


def over_runs(
    runs: Sequence[MethodRun], value: Callable[[MethodRun], float | None]
) -> Measured | None:
    """Return mean and standard deviation of something over the seeds that have it."""
    values = [found for run in runs if (found := value(run)) is not None]
    if not values:
        return None
    return Measured(fmean(values), stdev(values) if len(values) > 1 else None)


def mean_curve(
    runs: Sequence[MethodRun], value: Callable[[EpochEntry], float | None]
) -> list[tuple[float, float]]:
    """Return the mean over seeds at each epoch that all of them have."""
    curves = [
        {e.epoch: found for e in run.history if (found := value(e)) is not None} for run in runs
    ]
    if not curves:
        return []
    common = sorted(set.intersection(*(set(curve) for curve in curves)))
    return [(epoch, fmean(curve[epoch] for curve in curves)) for epoch in common]
