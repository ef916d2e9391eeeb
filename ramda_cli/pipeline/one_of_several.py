"""One run among several that belong together: made, gone on with, or there already."""

from ramda_cli.config.schema import RunConfig
from ramda_cli.errors import ConfigError, Interrupted
from ramda_cli.observer import Observer
from ramda_cli.pipeline.prune import prune
from ramda_cli.pipeline.resuming import other_setting
from ramda_cli.pipeline.workspace import Workspace

_MAY_DIFFER = ("output.directory", "output.overwrite", "data.workers")
"""Settings that change neither what a run measures nor which files it leaves."""


def is_there(run: RunConfig) -> bool:
    """Tell whether a directory holds the result of these settings."""
    workspace = Workspace(run.output.directory)
    return workspace.finished and _other_setting(workspace, run) is None


def run_once(run: RunConfig, observer: Observer, *, number: int, of: int) -> None:
    """Prune, unless a directory holds the result; go on with what was interrupted.

    Args:
        run: with a directory of its own. A run of other settings there is replaced if its output
            may be overwritten.
        observer: is told of it.
        number: its place among the runs.
        of: how many there are.

    Raises:
        ConfigError: the directory holds a run of other settings.
        RamdaError: as `prune`.
    """
    workspace, name = Workspace(run.output.directory), run.output.directory.name
    other = _other_setting(workspace, run)
    if workspace.finished and other is None:
        observer.note(f"{name} is there already")
        return
    if other is not None and not run.output.overwrite:
        raise ConfigError(other, hint="choose another -o, or replace it with --overwrite")
    observer.note(f"run {number} of {of}: {name}")
    try:
        prune(run, observer, resume=other is None)
    except Interrupted as stopped:
        hint = "the same command goes on where it stopped, and leaves finished runs alone"
        raise Interrupted(str(stopped), hint=hint) from stopped


def _other_setting(workspace: Workspace, run: RunConfig) -> str | None:
    return other_setting(workspace, run, may_differ=_MAY_DIFFER)
