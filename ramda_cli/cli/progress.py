"""What a run shows on stderr while it works: a live bar on a terminal, plain lines elsewhere."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console

from ramda_cli.cli.live import LiveObserver
from ramda_cli.cli.output import stderr_console
from ramda_cli.cli.steps import StepCounter, describe
from ramda_cli.observer import Observer, SilentObserver
from ramda_cli.report.formatting import counted, text_of


@contextmanager
def progress(console: Console | None = None) -> Iterator[Observer]:
    """Yield the observer that suits the console, stderr by default."""
    if os.environ.get("RANK", "0") != "0":  # of several processes one speaks
        yield SilentObserver()
        return
    target = console or stderr_console()
    # FORCE_COLOR makes a log file a terminal to rich; a live display there is noise.
    if target.is_interactive and target.file.isatty():
        with LiveObserver(target) as observer:
            yield observer
    else:
        yield PlainObserver(target)


class PlainObserver:
    """One line per stage and epoch, and one every `every` seconds in between."""

    def __init__(
        self,
        console: Console,
        *,
        every: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._every = every
        self._clock = clock
        self._counter: StepCounter | None = None
        self._printed_at = clock()

    def stage(self, name: str, detail: str = "") -> None:
        """Print the stage."""
        self._print(f"{name}: {detail}" if detail else name)

    def note(self, text: str) -> None:
        """Print the note."""
        self._print(f"note: {text}")

    def train_start(self, steps: int, epochs: int, later: int = 0) -> None:
        """Print how long training is."""
        self._counter = StepCounter(steps=steps, epochs=epochs, later=later, started=self._clock())
        self._print(f"training: {counted(epochs, 'epoch')}, {counted(steps, 'step')}")

    def train_step(self, step: int, values: Mapping[str, float]) -> None:
        """Print the step if nothing was printed for a while."""
        if self._counter is None:
            return
        self._counter.update(step, values)
        if self._clock() - self._printed_at >= self._every:
            self._print(f"step {step}/{self._counter.steps}  {self._state()}")

    def validated(self, epoch: int, values: Mapping[str, float]) -> None:
        """Print the epoch."""
        if self._counter is None:
            self._print(f"validation  {describe(values)}")
            return
        self._counter.update(self._counter.step, values)
        self._print(f"epoch {epoch}/{self._counter.epochs}  {self._state()}")

    def train_end(self) -> None:
        """Forget the training."""
        self._counter = None

    def _state(self) -> str:
        if self._counter is None:
            return ""
        now = self._clock()
        return f"{describe(self._counter.values)}  {self._counter.times(now)}"

    def _print(self, line: str) -> None:
        self._printed_at = self._clock()
        self._console.print(text_of(line.rstrip()), soft_wrap=True)
