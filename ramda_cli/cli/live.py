"""The live display of a run on a terminal: ticked stages, a bar, and the latest numbers."""

import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TaskID
from rich.progress_bar import ProgressBar
from rich.text import Text

from ramda_cli.cli.steps import StepCounter, clock_time, describe, time_left
from ramda_cli.report.formatting import duration, text_of

_NARROW = 60


class LiveObserver:
    """Shows the running stage live and leaves a tick line behind when it is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        unicode = console.encoding.startswith("utf")
        self._tick, self._cross = ("✓", "✗") if unicode else ("+", "x")
        self._display = _Display(console, spinner="dots" if unicode else "line")
        self._stage: TaskID | None = None
        self._name = ""
        self._detail = ""
        self._started = 0.0
        self._counter: StepCounter | None = None

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.train_end()
        self._finish(failed=error is not None)
        self._display.stop()

    def stage(self, name: str, detail: str = "") -> None:
        """Tick the stage before and show this one; a repeated name updates its detail."""
        if name != self._name:
            self._finish(failed=False)
            self._name, self._started = name, time.monotonic()
            self._stage = self._display.add_task("", total=None)
        self._detail = detail
        if self._stage is not None:
            self._display.update(self._stage, label=self._label())

    def note(self, text: str) -> None:
        """Print the note above the display."""
        self._console.print(_indented(Text("note: ", style="yellow") + text_of(text)))

    def train_start(self, steps: int, epochs: int, later: int = 0) -> None:
        """Give the stage a bar."""
        if self._stage is None:
            self.stage("train")
        self._counter = StepCounter(steps=steps, epochs=epochs, started=time.monotonic())
        if self._stage is not None:
            self._display.reset(self._stage, total=steps, later=later)

    def train_step(self, step: int, values: Mapping[str, float]) -> None:
        """Move the bar and take the numbers."""
        if self._counter is None or self._stage is None:
            return
        self._counter.update(step, values)
        self._display.update(self._stage, completed=step)
        self._show_numbers()

    def validated(self, epoch: int, values: Mapping[str, float]) -> None:
        """Take the validation's numbers and leave the epoch's line behind."""
        shown, of = dict(values), ""
        if self._counter is not None:
            self._counter.values.update(values)
            self._show_numbers()
            shown, of = self._counter.values, f"/{self._counter.epochs}"
        self._console.print(_indented(Text(f"epoch {epoch}{of}  {describe(shown)}", style="dim")))

    def train_end(self) -> None:
        """Remove the numbers under the bar."""
        self._counter = None
        self._display.numbers = None

    def _show_numbers(self) -> None:
        if self._counter is not None:
            self._display.numbers = _indented(Text(describe(self._counter.values)))

    def _label(self) -> Text:
        label = text_of(self._name, style="bold")
        if self._detail:
            label.append_text(text_of(f" {self._detail}", style="not bold"))
        return label

    def _finish(self, *, failed: bool) -> None:
        """Replace the running stage by its tick line."""
        if self._stage is None:
            return
        self._display.remove_task(self._stage)
        self._stage = None
        seconds = duration(time.monotonic() - self._started)
        line = Text(f"{self._cross} ", "red") if failed else Text(f"{self._tick} ", "green")
        line.append_text(self._label())
        self._console.print(line.append(f"  {seconds}", style="dim"))


def _indented(text: Text) -> Padding:
    """Return text that stands under its stage, on every line that it takes."""
    return Padding(text, (0, 0, 0, 2), expand=False)


class _Display(Progress):
    """One row per stage, and under them the numbers of the training."""

    def __init__(self, console: Console, *, spinner: str) -> None:
        self.numbers: RenderableType | None = None
        columns = (SpinnerColumn(spinner), _Label(), _Bar(console), _Times())
        super().__init__(*columns, console=console, transient=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield what is drawn, top to bottom."""
        yield self.make_tasks_table(self.tasks)
        if self.numbers is not None:
            yield self.numbers


class _Label(ProgressColumn):
    def render(self, task: Task) -> Text:
        label: Text = task.fields.get("label", Text())
        return label


class _Bar(ProgressColumn):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def render(self, task: Task) -> RenderableType:
        if task.total is None or self._console.width < _NARROW:
            return Text()
        width = min(40, self._console.width - 50)
        return ProgressBar(total=max(task.total, 1), completed=task.completed, width=width)


class _Times(ProgressColumn):
    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text(clock_time(task.elapsed or 0.0), style="dim")
        shown = f"{task.percentage:.0f} %  {clock_time(task.elapsed or 0.0)}"
        if task.completed:
            later = task.fields.get("later", 0)
            left = time_left(task.elapsed or 0.0, task.completed, task.total, later)
            shown += f"  {left}"
        return Text(shown, no_wrap=True, overflow="ellipsis")
