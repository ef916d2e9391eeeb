"""From an exception to a line on stderr and an exit code.

0 done; 1 a failure the message explains; 2 usage; 3 a gate failed; 130 interrupted. Exceptions
that are not the user's to mend keep their traceback.
"""

import os
import sys
import traceback
from typing import Any, NoReturn

import typer
import typer.core
from rich.text import Text

from ramda_cli.cli.output import stderr_console
from ramda_cli.errors import Interrupted, RamdaError


class CommandLine(typer.core.TyperGroup):
    """The group of commands, with this package's way to end."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Ctrl-C becomes `Interrupted` before Typer sees it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted(
                "interrupted", hint="run it again, with --overwrite if it wrote files"
            ) from error

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run and exit."""
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except RamdaError as error:
            _report(error, str(error), error.hint)
            sys.exit(error.exit_code)
        except typer.TyperException as error:
            _report(error, _usage_message(error), _usage_hint(error))
            sys.exit(error.exit_code)
        except OSError as error:  # of a path that no command has looked at itself
            place = "" if error.filename is None else f"{error.filename}: "
            _report(error, f"{place}{error.strerror or error}", "RAMDA_DEBUG=1 shows where")
            sys.exit(1)
        # `typer.Exit` arrives as its code, a command that returns as None.
        sys.exit(code or 0)


def _report(error: Exception, message: str, hint: str | None) -> None:
    if os.environ.get("RAMDA_DEBUG") == "1":
        traceback.print_exception(error)
    console = stderr_console()
    for label, style, line in (("error", "bold red", message), ("hint", "cyan", hint)):
        if line is not None:
            text = Text(f"{label}:", style=style) + Text(f" {_one_line(line)}", style="not bold")
            console.print(text, soft_wrap=True)


def _usage_message(error: typer.TyperException) -> str:
    # Typer checks values with pydantic, whose prefix says nothing to a user.
    message = " ".join(error.format_message().split()).replace("Value error, ", "")
    return message[:1].lower() + message[1:].removesuffix(".")


def _usage_hint(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "ramda"
    return f"`{command} --help` lists what it takes"


def _one_line(text: str) -> str:
    """Return `text` on one line with control characters made visible."""
    joined = " ".join(text.split("\n"))
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in joined)
