"""Metrics to TensorBoard and other trackers, by Accelerate's own adapters."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ramda_cli.config.loading import flat_settings
from ramda_cli.config.schema import RunConfig
from ramda_cli.errors import ConfigError
from ramda_cli.observer import Observer


class Trackers:
    """What metrics are reported to; may be nothing.

    Args:
        names: as Accelerate calls them, which `require_trackers` has seen: tensorboard, wandb,
            mlflow and others.
        directory: of the run, in which those that write files do.
        config: settings of the run, which are reported once.
    """

    def __init__(self, names: Sequence[str], directory: Path, config: RunConfig) -> None:
        self._trackers = [_open(name, directory) for name in names]
        for tracker in self._trackers:
            tracker.store_init_configuration(_plain(flat_settings(config)))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Report numbers after so many steps."""
        for tracker in self._trackers:
            tracker.log(dict(values), step=step)

    def finish(self) -> None:
        """Close them."""
        for tracker in self._trackers:
            tracker.finish()


class ReportingObserver:
    """Passes everything on, and numbers to trackers too.

    Args:
        observer: that is told as well.
        trackers: of the run.
        step: returns how many steps the run has done.
    """

    def __init__(self, observer: Observer, trackers: Trackers, step: Callable[[], int]) -> None:
        self._observer = observer
        self._trackers = trackers
        self._step = step
        self.stage = observer.stage
        self.note = observer.note
        self.train_start = observer.train_start
        self.train_end = observer.train_end

    def train_step(self, step: int, values: Mapping[str, float]) -> None:
        """Report the numbers of a step."""
        self._trackers.log({f"train/{k}": v for k, v in values.items()}, self._step())
        self._observer.train_step(step, values)

    def validated(self, epoch: int, values: Mapping[str, float]) -> None:
        """Report those of an epoch."""
        named = {f"epoch/{k.removeprefix('plain_')}": v for k, v in values.items()}
        self._trackers.log({**named, "epoch": epoch}, self._step())
        self._observer.validated(epoch, values)


def require_trackers(names: Sequence[str]) -> None:
    """Refuse names of trackers that cannot be had, before anything is loaded.

    Raises:
        ConfigError: a name is unknown, or its package is not installed.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = sorted(str(name) for name in LOGGER_TYPE_TO_CLASS)
    there = {str(getattr(name, "value", name)) for name in get_available_trackers()}
    for name in names:
        if name not in known:
            raise ConfigError(
                f"there is no tracker {name!r}", hint=f"--report-to takes {', '.join(known)}"
            )
        if name not in there:
            raise ConfigError(f"the tracker {name} is not installed", hint=f"`pip install {name}`")


def _open(name: str, directory: Path) -> Any:
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    # Its loggers ask for it, in a process alone too.
    PartialState(cpu=os.environ.get("WORLD_SIZE", "1") == "1")
    kind = LOGGER_TYPE_TO_CLASS[name]
    if kind.requires_logging_directory:
        tracker = kind(name, directory)
    else:
        tracker = kind(directory.resolve().name)
    if hasattr(tracker, "start"):
        tracker.start()
    return tracker


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what trackers take of settings: numbers and texts, and nothing that is empty."""
    return {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in settings.items()
        if isinstance(value, bool | int | float | str) or value
    }
