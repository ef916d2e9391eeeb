"""`ramda report`: the report of a pruned model, from the header of its file."""

import sys
from typing import Annotated, Literal

import typer

from ramda_cli.cli import options
from ramda_cli.cli.output import model_file, print_json, stdout_console
from ramda_cli.file_header import read_header_report
from ramda_cli.report.markdown import render_markdown
from ramda_cli.report.terminal import render_terminal


def report(
    file: options.PrunedFile,
    format: Annotated[
        Literal["terminal", "json", "markdown"], typer.Option("--format", help="How to show it.")
    ] = "terminal",
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Show the report of a pruned model, from FILE alone.

    Examples:
      ramda report out/model.safetensors
      ramda report out --format json
      ramda report out --format markdown | gh pr comment --body-file -
    """
    document = read_header_report(model_file(file))
    if json or format == "json":
        print_json(document)
    elif format == "markdown":
        # As `print_json`: the file's text must not depend on the terminal.
        sys.stdout.write(render_markdown(document))
    else:
        render_terminal(document, stdout_console())
