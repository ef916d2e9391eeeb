"""One run among several that belong together: made, gone on with, or there already."""

from ramda_cli.config.loading import load_config
from ramda_cli.config.schema import RunConfig
from ramda_cli.errors import FileFormatError, Interrupted
from ramda_cli.file_header import read_header_report
from ramda_cli.observer import Observer
from ramda_cli.pipeline.prune import prune
from ramda_cli.pipeline.workspace import INCOMPLETE, Workspace
from ramda_cli.report.plain import parse_report


def run_once(run: RunConfig, observer: Observer, *, number: int, of: int) -> None:
    """Prune, unless a directory holds the result; go on with what was interrupted.

    Args:
        run: with a directory of its own.
        observer: is told of it.
        number: its place among the runs.
        of: how many there are.

    Raises:
        RamdaError: as `prune`.
    """
    name = run.output.directory.name
    if _finished(run):
        observer.note(f"{name} is there already")
        return
    observer.note(f"run {number} of {of}: {name}")
    try:
        prune(run, observer, resume=_begun(run))
    except Interrupted as stopped:
        hint = "the same command goes on where it stopped, and leaves finished runs alone"
        raise Interrupted(str(stopped), hint=hint) from stopped


def _finished(run: RunConfig) -> bool:
    """Tell whether a directory holds the result of these very settings."""
    directory = run.output.directory
    if not (directory / "report.json").is_file() or (directory / INCOMPLETE).exists():
        return False
    try:
        report = parse_report(read_header_report(directory / "model.safetensors"))
    except FileFormatError:
        return False
    return report.reproducibility.config == run.model_dump(mode="json")


def _begun(run: RunConfig) -> bool:
    """Tell whether a directory holds an unfinished run of these very settings."""
    workspace = Workspace(run.output.directory)
    settings = workspace.path("config.yaml")
    if not (workspace.unfinished and settings.is_file()):
        return False
    return load_config(settings, {}, ()) == run
