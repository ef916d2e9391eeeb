"""How far training is, and its latest numbers, in words."""

from collections.abc import Mapping
from typing import Final

from ramda_cli.report.formatting import percent

# Value name, label, and whether it is a share; what is not listed is not shown.
_SHOWN: Final = (
    ("loss", "loss", False),
    ("metric", "val", True),
    ("plain_metric", "val", False),
    ("group_sparsity", "group sparsity", True),
    ("low_rank_level", "low rank", True),
    ("macs_share", "MACs left", True),
)


class StepCounter:
    """Counts the steps of a training and keeps the latest value of each name.

    Attributes:
        steps, epochs: of this training.
        later: of how many more what follows in the run takes the time.
        started: seconds on the observer's clock.
        step: how many are done.
        values: the latest numbers.
    """

    def __init__(self, *, steps: int, epochs: int, started: float, later: int = 0) -> None:
        self.steps = steps
        self.epochs = epochs
        self.later = later
        self.started = started
        self.step = 0
        self.values: dict[str, float] = {}

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Take the numbers of a step."""
        self.step = step
        self.values.update(values)

    def times(self, now: float) -> str:
        """Return the elapsed time and, once a step is done, the time left."""
        elapsed = now - self.started
        shown = f"{clock_time(elapsed)} elapsed"
        if self.step > 0:
            shown += f", {time_left(elapsed, self.step, self.steps, self.later)}"
        return shown


def time_left(elapsed: float, done: float, steps: float, later: int) -> str:
    """Return how long the steps that are left take, and those of the whole run."""
    left = max(steps - done, 0)
    shown = f"{clock_time(elapsed / done * left)} left"
    if later:
        shown += f", {clock_time(elapsed / done * (left + later))} to the end"
    return shown


def describe(values: Mapping[str, float]) -> str:
    """Return the known numbers with their labels."""
    parts = []
    for name, label, is_share in _SHOWN:
        if name in values:
            digits = 2 if name == "metric" else 1
            value = percent(values[name], digits) if is_share else f"{values[name]:.4f}"
            parts.append(f"{label} {value}")
    return "  ".join(parts)


def clock_time(seconds: float) -> str:
    """Return seconds as m:ss, or h:mm:ss above an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
