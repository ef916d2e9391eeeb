"""`ramda report`: the report of a pruned model, from the header of its file."""

from typing import Annotated, Literal

import typer

from ramda_cli.cli import options
from ramda_cli.cli.output import model_file, print_json, stdout_console
from ramda_cli.file_header import read_header_report
from ramda_cli.report.terminal import render_terminal


def report(
    file: options.PrunedFile,
    format: Annotated[
        Literal["terminal", "json"], typer.Option("--format", help="How to show it.")
    ] = "terminal",
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Show the report of a pruned model, from FILE alone.

    Examples:
      ramda report out/model.safetensors
      ramda report out --format json
    """
    document = read_header_report(model_file(file))
    if json or format == "json":
        print_json(document)
    else:
        render_terminal(document, stdout_console())
