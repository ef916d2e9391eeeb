"""What a run tells, with the time, in a file of its output directory."""

import contextlib
import logging
import os
import time
import traceback
from collections.abc import Mapping
from io import TextIOWrapper
from logging.handlers import MemoryHandler, RotatingFileHandler
from types import TracebackType
from typing import Self

from ramda_cli.errors import RamdaError
from ramda_cli.observer import Observer
from ramda_cli.pipeline.workspace import LOGS, Workspace

_MOST_BYTES = 10_000_000
_STEPS_EVERY = 60.0
"""Seconds between two lines on steps."""


class Logbook:
    """Passes everything on, and writes it to `run.log` too, as soon as that is open.

    A full file is renamed to `run.log.1`, and so on; the oldest is dropped. What ends the run is
    the last entry.

    Args:
        observer: that is told as well.
        workspace: of the run.
    """

    def __init__(self, observer: Observer, workspace: Workspace) -> None:
        self._observer = observer
        self._workspace = workspace
        self._logger = logging.Logger("ramda")
        self._early = MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1)
        self._logger.addHandler(self._early)
        self._stepped_at = time.monotonic()
        self.train_end = observer.train_end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(RamdaError):  # the disk may be what ended it
            if isinstance(error, RamdaError):
                self._write(f"{error}; {error.hint}" if error.hint else str(error), logging.ERROR)
            elif error is not None:
                self._write("".join(traceback.format_exception(error)).rstrip(), logging.ERROR)
        for handler in self._logger.handlers:
            handler.close()

    def open(self) -> None:
        """Begin to write, once the directory is the run's; what was told before comes first."""
        if not self._workspace.writes:
            return
        path = self._workspace.path(LOGS[0])
        with self._workspace.writing(path):
            file = _File(path, maxBytes=_MOST_BYTES, backupCount=len(LOGS) - 1, encoding="utf-8")
            line = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")
            file.setFormatter(line)
            self._early.setTarget(file)
            self._early.flush()
        self._logger.removeHandler(self._early)
        self._logger.addHandler(file)

    def stage(self, name: str, detail: str = "") -> None:
        """Write the stage."""
        self._write(f"{name}: {detail}" if detail else name)
        self._observer.stage(name, detail)

    def note(self, text: str) -> None:
        """Write the note."""
        self._write(f"note: {text}")
        self._observer.note(text)

    def train_start(self, steps: int, epochs: int, later: int = 0) -> None:
        """Write how long training is."""
        self._write(f"training: {steps} steps")
        self._observer.train_start(steps, epochs, later)

    def train_step(self, step: int, values: Mapping[str, float]) -> None:
        """Write the step, where none was written for a minute."""
        if time.monotonic() - self._stepped_at >= _STEPS_EVERY:
            self._stepped_at = time.monotonic()
            self._write(f"step {step}: {_shown(values)}")
        self._observer.train_step(step, values)

    def validated(self, epoch: int, values: Mapping[str, float]) -> None:
        """Write the epoch."""
        self._write(f"epoch {epoch}: {_shown(values)}")
        self._observer.validated(epoch, values)

    def _write(self, text: str, level: int = logging.INFO) -> None:
        with self._workspace.writing(self._workspace.path(LOGS[0])):
            self._logger.log(level, "%s", text)


class _File(RotatingFileHandler):
    """Follows no link, and fails where it cannot write."""

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        return open(os.open(self.baseFilename, flags, 0o666), "a", encoding=self.encoding)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """Let the caller meet the error."""
        raise


def _shown(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in values.items())
