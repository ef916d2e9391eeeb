"""Where a command writes: its result to stdout, everything else to stderr."""

import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from ramda_cli.errors import OutputError


def stdout_console() -> Console:
    """Return the console for results."""
    return Console(highlight=False)


def stderr_console() -> Console:
    """Return the console for progress and messages."""
    return Console(stderr=True, highlight=False)


def print_json(document: Mapping[str, object]) -> None:
    """Print one JSON document on stdout, in ASCII so that any terminal and pipe takes it."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


def show_report(document: Mapping[str, object], *, json: bool) -> None:
    """Print the report of a run, as JSON or for a person."""
    if json:
        print_json(document)
        return
    from ramda_cli.report.terminal import render_terminal

    render_terminal(document, stdout_console())


def stdout_to_stderr() -> contextlib.AbstractContextManager[object]:
    """Keep what libraries print away from the result."""
    return contextlib.redirect_stdout(sys.stderr)


def model_file(path: Path) -> Path:
    """Return the model file of an output directory; any other path as it is."""
    return path / "model.safetensors" if path.is_dir() else path


def write_text(path: Path, text: str, *, flag: str) -> None:
    """Write the file that a flag names.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror}", hint=f"give another path with {flag}"
        ) from error
