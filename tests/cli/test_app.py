import subprocess
import sys
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from ramda_cli import __version__
from ramda_cli.cli.app import app
from ramda_cli.errors import (
    ConfigError,
    EquivalenceError,
    Interrupted,
    ModelError,
    TargetError,
)
from tests.cli.conftest import FakePipeline

Run = Callable[..., Result]
PRUNE = ("prune", "m", "--data", "d", "--target", "macs=0.5")

HELP_IMPORTS = """
import sys, time
from ramda_cli.cli.app import main
sys.argv = ["ramda", "--help"]
try:
    main()
except SystemExit as done:
    assert done.code == 0, done.code
heavy = {"torch", "timm", "transformers", "datasets", "onnx", "numpy", "scipy"} & set(sys.modules)
print(f"{sorted(heavy)} {time.process_time()}", file=sys.stderr)
"""

# What the help cannot do without: the yardstick of how fast this machine is.
LIBRARIES = """
import time
import pydantic.types, typer.rich_utils, yaml
print(time.process_time())
"""


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize(
    "command",
    [
        "",
        "prune",
        "sweep",
        "compare",
        "inspect",
        "remove",
        "report",
        "eval",
        "check",
        "verify",
        "export",
        "bench",
    ],
)
def test_every_command_has_help_with_examples(ramda: Run, command: str, flag: str) -> None:
    result = ramda(*command.split(), flag)
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert "\n   ramda " in result.stdout
    assert f"ramda {command}".strip() in result.stdout
    assert result.stderr == ""


def test_help_imports_nothing_heavy_and_is_quick() -> None:
    seconds, yardsticks = [], []
    for _ in range(3):
        done = _python(HELP_IMPORTS)
        heavy, _, spent = done.stderr.strip().rpartition(" ")
        assert heavy == "[]"
        assert "prune" in done.stdout
        seconds.append(float(spent))
        yardsticks.append(float(_python(LIBRARIES).stdout))
    # Processor time, and the best of three: other work on the machine is not ours to measure.
    assert min(seconds) < 3 * min(yardsticks)


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_the_version_is_printed(ramda: Run) -> None:
    result = ramda("--version")
    assert (result.exit_code, result.stdout) == (0, f"ramda {__version__}\n")


def test_no_command_shows_the_help(ramda: Run) -> None:
    result = ramda()
    assert result.exit_code == 2
    assert "Usage: ramda" in result.stdout


@pytest.mark.parametrize(
    ("args", "message", "command"),
    [
        (("prun",), "no such command 'prun'. Did you mean 'prune'?", "ramda"),
        (("inspect",), "missing argument 'MODEL'", "ramda inspect"),
        (("eval", "f"), "missing option '--data'", "ramda eval"),
        (
            ("report", "f", "--format", "pdf"),
            "invalid value for '--format': 'pdf' is not one of"
            " 'terminal', 'json', 'markdown', 'html'",
            "ramda report",
        ),
    ],
)
def test_usage_errors_are_two_lines(
    ramda: Run, args: tuple[str, ...], message: str, command: str
) -> None:
    result = ramda(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {message}\nhint: `{command} --help` lists what it takes\n"


@pytest.mark.parametrize(
    ("args", "start"),
    [
        # The rest of these lines differs between versions of Typer.
        (("prune", "m", "--datta", "d"), "no such option: --datta"),
        (("prune", "m", "--epochs", "many"), "invalid value for '--epochs': "),
        (("prune", "m", "a\x1b[31mb"), "got unexpected extra argument"),
    ],
)
def test_typers_own_words_are_two_plain_lines(
    ramda: Run, args: tuple[str, ...], start: str
) -> None:
    result = ramda(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    error, hint = result.stderr.splitlines()
    assert error.startswith(f"error: {start}")
    assert hint == "hint: `ramda prune --help` lists what it takes"
    assert "\x1b" not in error


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (ModelError("no model 'm'", hint="see `timm.list_models()`"), 1),
        (ConfigError("bad", hint="do"), 2),
        (TargetError("macs=0.5 not reached", hint="train longer"), 3),
        (EquivalenceError("outputs differ"), 3),
        (Interrupted("interrupted in epoch 3", hint="see out/"), 130),
    ],
)
def test_failures_end_with_their_code_and_line(
    ramda: Run, pipeline: FakePipeline, failure: ModelError, code: int
) -> None:
    pipeline.failure = failure
    result = ramda(*PRUNE, "--json")
    hint = "" if failure.hint is None else f"hint: {failure.hint}\n"
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.endswith(f"error: {failure}\n{hint}")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["report", "check"])
def test_a_path_that_no_system_takes_is_an_error(ramda: Run, command: str) -> None:
    name = "a" * 300
    result = ramda(command, name)
    assert result.exit_code == 1
    assert f"{name}: File name too long" in result.stderr
    assert "Traceback" not in result.stderr


def test_ctrl_c_is_130(ramda: Run, pipeline: FakePipeline) -> None:
    pipeline.failure = KeyboardInterrupt()
    result = ramda(*PRUNE)
    assert result.exit_code == 130
    assert result.stderr.endswith(
        "error: interrupted\nhint: run it again, with --overwrite if it wrote files\n"
    )


def test_debug_shows_the_traceback(
    ramda: Run, pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAMDA_DEBUG", "1")
    pipeline.failure = ModelError("no model 'm'")
    result = ramda(*PRUNE)
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("error: no model 'm'\n")


def test_a_bug_keeps_its_traceback(pipeline: FakePipeline) -> None:
    pipeline.failure = ZeroDivisionError("a bug")
    result = CliRunner().invoke(app, list(PRUNE))
    assert result.exception is pipeline.failure


def test_a_message_is_one_line_whatever_it_holds(ramda: Run, pipeline: FakePipeline) -> None:
    pipeline.failure = ModelError("a\nb \x1b[31m [bold]c" + "d" * 200, hint="h\ni")
    result = ramda(*PRUNE)
    lines = result.stderr.splitlines()[-2:]
    assert lines == ["error: a b \\x1b[31m [bold]c" + "d" * 200, "hint: h i"]


def test_the_package_can_be_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ramda_cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"ramda {__version__}\n"
