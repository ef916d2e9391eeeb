"""The commands of `ramda`, and the entry point of its console script."""

import sys
from typing import Annotated

import typer

from ramda_cli import __version__
from ramda_cli.cli.bench import bench
from ramda_cli.cli.check import check
from ramda_cli.cli.compare import compare
from ramda_cli.cli.eval import evaluate
from ramda_cli.cli.export import export
from ramda_cli.cli.failures import CommandLine
from ramda_cli.cli.inspect import inspect
from ramda_cli.cli.options import CONTEXT
from ramda_cli.cli.prune import prune
from ramda_cli.cli.remove import remove
from ramda_cli.cli.report import report
from ramda_cli.cli.sweep import sweep
from ramda_cli.cli.verify import verify

app = typer.Typer(
    name="ramda",
    cls=CommandLine,
    context_settings=CONTEXT,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("prune")(prune)
app.command("sweep")(sweep)
app.command("compare")(compare)
app.command("inspect")(inspect)
app.command("report")(report)
app.command("eval")(evaluate)
app.command("check")(check)
app.command("verify")(verify)
app.command("export")(export)
app.command("remove")(remove)
app.add_typer(bench, name="bench")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ramda {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def ramda(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Make a pretrained model smaller, and prove that the smaller one computes the same.

    Examples:
      ramda prune digits-resnet --data digits --target macs=0.5 -o out
      ramda report out/model.safetensors
      ramda inspect resnet50

    Exit codes: 0 done, 1 failed, 2 usage, 3 a gate failed, 130 interrupted.
    RAMDA_DEBUG=1 shows the traceback of an error.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def main() -> None:
    """Run the command line and exit."""
    if hasattr(sys.stdout, "reconfigure"):
        # A name or a bar that the terminal's encoding lacks must not end the run.
        sys.stdout.reconfigure(errors="backslashreplace")
    app(prog_name="ramda")
