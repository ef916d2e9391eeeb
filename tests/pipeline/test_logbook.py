"""`run.log`: what a run told, in order, of bounded size, and how it ended."""

from pathlib import Path

import pytest

from ramda_cli.errors import ConfigError, OutputError
from ramda_cli.observer import SilentObserver
from ramda_cli.pipeline import logbook
from ramda_cli.pipeline.logbook import Logbook
from ramda_cli.pipeline.prune import prune
from ramda_cli.pipeline.workspace import LOGS, Workspace
from tests.pipeline.recording import Recorder
from tests.pipeline.test_resuming import config_of, stopped


def texts(path: Path) -> list[str]:
    """Return the lines without their time and level."""
    return [line.split(" ", 2)[-1] for line in path.read_text().splitlines()]


def test_what_was_told_before_the_directory_is_there_comes_first(tmp_path: Path) -> None:
    seen = Recorder()
    with Logbook(seen, Workspace(tmp_path)) as book:
        book.stage("load", "a model")
        book.note("a note")
        assert not list(tmp_path.iterdir())
        book.open()
        book.train_start(10, 2, 5)
        book.train_step(1, {"loss": 0.5})
        book.validated(1, {"metric": 0.25, "lr": 1e-3})
        book.train_end()
    assert texts(tmp_path / "run.log") == [
        "load: a model", "note: a note", "training: 10 steps",
        "epoch 1: metric 0.25, lr 0.001",
    ]  # fmt: skip
    assert seen.notes == ["a note"]


def test_steps_are_written_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with Logbook(SilentObserver(), Workspace(tmp_path)) as book:
        book.open()
        for step in range(12):
            now = 10.0 * step
            book.train_step(step, {"loss": 1.0})
    assert texts(tmp_path / "run.log") == ["step 6: loss 1"]


def test_a_log_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logbook, "_MOST_BYTES", 1000)
    with Logbook(SilentObserver(), Workspace(tmp_path)) as book:
        book.open()
        for number in range(1000):
            book.note(f"number {number}")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(LOGS)
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert texts(tmp_path / "run.log")[-1] == "note: number 999"


@pytest.mark.parametrize(
    ("error", "last"),
    [(ConfigError("that is wrong", hint="do this"), "that is wrong; do this"),
     (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero")],
)  # fmt: skip
def test_what_ended_a_run_is_the_last_entry(tmp_path: Path, error: Exception, last: str) -> None:
    with pytest.raises(type(error)), Logbook(SilentObserver(), Workspace(tmp_path)) as book:  # noqa: PT012
        book.open()
        raise error
    written = (tmp_path / "run.log").read_text()
    assert written.endswith(last + "\n")
    assert " ERROR " in written


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.log").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(OutputError, match=r"^cannot write .*run\.log"),
        Logbook(SilentObserver(), Workspace(tmp_path / "run")) as book,
    ):
        book.open()
    assert not (tmp_path / "elsewhere").exists()


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    with Logbook(SilentObserver(), Workspace(tmp_path, writes=False)) as book:
        book.open()
        book.note("a note")
    assert not list(tmp_path.iterdir())


def test_a_resumed_run_goes_on_with_its_log(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    log = stopped(config, 3).path("run.log")
    before = log.read_text()
    assert texts(log)[-1].startswith("interrupted")
    prune(config, Recorder(), resume=True)
    assert log.read_text().startswith(before)
    assert texts(log)[-1].startswith("done")
    assert "run.log" not in (config.output.directory / "report.json").read_text()
