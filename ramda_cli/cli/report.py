"""`ramda report`: the report of a pruned model, from the header of its file."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ramda_cli.cli import options
from ramda_cli.cli.output import model_file, print_json, stdout_console
from ramda_cli.errors import ConfigError
from ramda_cli.file_header import read_header_report
from ramda_cli.report.comparison import comparison_markdown, render_comparison
from ramda_cli.report.markdown import render_markdown
from ramda_cli.report.terminal import render_terminal

Format = Literal["terminal", "json", "markdown", "html"]


def report(
    file: options.PrunedFile,
    format: Annotated[
        Format,
        typer.Option("--format", help="How to show it."),
    ] = "terminal",
    compare: Annotated[
        Path | None,
        typer.Option("--compare", metavar="OTHER", help="Show another model beside it."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Show the report of a pruned model, from FILE alone.

    The header is read, the weights are not loaded.

    Examples:
      ramda report out/model.safetensors
      ramda report out --format json
      ramda report out --format markdown | gh pr comment --body-file -
      ramda report out --format html > report.html
      ramda report out --compare yesterday/out
    """
    document = read_header_report(model_file(file))
    other = None if compare is None else read_header_report(model_file(compare))
    if json or format == "json":
        print_json(document if other is None else {"first": document, "second": other})
    elif format == "markdown":
        # As `print_json`: the text must not depend on the terminal.
        shown = render_markdown(document) if other is None else comparison_markdown(document, other)
        sys.stdout.write(shown)
    elif format == "html":
        if other is not None:
            raise ConfigError(
                "two models are compared in the terminal, in markdown or in JSON, not in HTML",
                hint="leave out --compare, or choose --format markdown",
            )
        from ramda_cli.report.html import render_html

        sys.stdout.write(render_html(document))
    elif other is not None:
        render_comparison(document, other, stdout_console())
    else:
        render_terminal(document, stdout_console())
