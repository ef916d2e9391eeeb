import io

import pytest
from rich.console import Console

from ramda_cli.cli.live import LiveObserver
from ramda_cli.cli.progress import PlainObserver, progress
from ramda_cli.cli.steps import StepCounter, clock_time, describe
from ramda_cli.observer import Observer, SilentObserver


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def console(*, terminal: bool = False, width: int = 80, encoding: str = "utf-8") -> Console:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    return Console(file=file, force_terminal=terminal, width=width, highlight=False)


def text_of(target: Console) -> str:
    file = target.file
    assert isinstance(file, io.TextIOWrapper)
    file.flush()
    buffer = file.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


def play(observer: Observer) -> None:
    observer.stage("load", "m")
    observer.note("head [bold]replaced")
    observer.stage("load", "m, 2 parameters")
    observer.stage("train")
    observer.validated(0, {"metric": 0.5})
    observer.train_start(4, 2)
    for step in range(1, 5):
        observer.train_step(step, {"loss": 1 / step, "macs_share": 0.75, "lr": 0.1})
        if step % 2 == 0:
            observer.validated(step // 2, {"metric": 0.9, "group_sparsity": 0.25})
    observer.train_end()
    observer.stage("verify")


def test_off_a_terminal_stages_and_epochs_are_plain_lines() -> None:
    target = console()
    play(PlainObserver(target, clock=Clock()))
    assert text_of(target).splitlines() == [
        "load: m",
        "note: head [bold]replaced",
        "load: m, 2 parameters",
        "train",
        "validation  val 50.00 %",
        "training: 2 epochs, 4 steps",
        "epoch 1/2  loss 0.5000  val 90.00 %  group sparsity 25.0 %  MACs left 75.0 %"
        "  0:00 elapsed, 0:00 left",
        "epoch 2/2  loss 0.2500  val 90.00 %  group sparsity 25.0 %  MACs left 75.0 %"
        "  0:00 elapsed, 0:00 left",
        "verify",
    ]


def test_a_long_epoch_is_reported_now_and_then() -> None:
    target, clock = console(), Clock()
    observer = PlainObserver(target, every=30, clock=clock)
    observer.train_start(100, 1)
    for step in range(1, 8):
        clock.now += 10
        observer.train_step(step, {"loss": 1.0})
    assert text_of(target).splitlines()[1:] == [
        "step 3/100  loss 1.0000  0:30 elapsed, 16:10 left",
        "step 6/100  loss 1.0000  1:00 elapsed, 15:40 left",
    ]


def test_the_time_to_the_end_has_what_follows() -> None:
    counter = StepCounter(steps=10, epochs=5, later=40, started=100.0)
    counter.update(5, {})
    assert counter.times(150.0) == "0:50 elapsed, 0:50 left, 7:30 to the end"


def test_steps_outside_a_training_are_ignored() -> None:
    for target in (console(), console(terminal=True)):
        PlainObserver(target).train_step(1, {"loss": 1.0})
        assert text_of(target) == ""


@pytest.mark.parametrize("width", [30, 50, 80, 120])
def test_on_a_terminal_done_stages_are_ticked(width: int) -> None:
    target = console(terminal=True, width=width)
    with LiveObserver(target) as observer:
        play(observer)
    text = text_of(target)
    assert text.count("✓") == 3
    assert "✗" not in text
    assert "head [bold]replaced" in text
    assert "epoch 2/2" in text


def test_a_failed_stage_is_crossed() -> None:
    target = console(terminal=True)
    with pytest.raises(ZeroDivisionError), LiveObserver(target) as observer:  # noqa: PT012
        observer.stage("load")
        observer.stage("train")
        observer.train_start(3, 1)
        raise ZeroDivisionError
    text = text_of(target)
    assert text.count("✓") == 1
    assert text.count("✗") == 1
    # The cursor is shown again.
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_an_ascii_terminal_gets_ascii() -> None:
    target = console(terminal=True, encoding="ascii")
    with LiveObserver(target) as observer:
        play(observer)
    assert text_of(target).isascii()


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    target = console(terminal=True)
    with LiveObserver(target) as observer:
        play(observer)
    assert "\x1b[32m" not in text_of(target)


def test_the_live_display_shows_bar_numbers_and_times() -> None:
    target = console(terminal=True)
    with LiveObserver(target) as observer:
        observer.stage("train")
        observer.train_start(4, 1, later=4)
        observer.train_step(2, {"loss": 0.5, "macs_share": 0.75})
        observer._display.refresh()
        text = text_of(target)
    assert "━" in text
    assert "50 %" in text
    assert "left, 0:00 to the end" in text
    assert "loss 0.5000  MACs left 75.0 %" in text


def test_training_without_a_stage_opens_one() -> None:
    target = console(terminal=True)
    with LiveObserver(target) as observer:
        observer.train_step(1, {})
        observer.train_start(1, 1)
        observer.train_step(1, {"loss": 1.0})
    assert "✓" in text_of(target)


def test_the_observer_suits_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    with progress(console()) as observer:
        assert isinstance(observer, PlainObserver)
    # A terminal only by force: a log file under FORCE_COLOR.
    forced = console(terminal=True)
    with progress(forced) as observer:
        assert isinstance(observer, PlainObserver)
    monkeypatch.setattr(forced.file, "isatty", lambda: True)
    with progress(forced) as observer:
        assert isinstance(observer, LiveObserver)


def test_the_silent_observer_takes_everything() -> None:
    play(SilentObserver())


def test_unknown_values_are_not_shown() -> None:
    assert describe({"lr": 0.1, "certificate": 1.0}) == ""


def test_times() -> None:
    counter = StepCounter(steps=10, epochs=1, started=5.0)
    assert counter.times(65.0) == "1:00 elapsed"
    counter.update(5, {})
    assert counter.times(65.0) == "1:00 elapsed, 1:00 left"
    assert clock_time(3661.4) == "1:01:01"


def test_a_long_line_of_an_epoch_stays_under_its_stage() -> None:
    target = console(terminal=True, width=40)
    with LiveObserver(target) as observer:
        observer.stage("train")
        observer.train_start(10, 1)
        observer.validated(1, {"loss": 0.5, "metric": 0.9, "group_sparsity": 0.4})
    lines = text_of(target).splitlines()
    (start,) = (i for i, line in enumerate(lines) if "epoch 1/1" in line)
    assert lines[start + 1].startswith("  ")
