"""Going on with a run that was interrupted: whether it can be, and with what."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ramda_cli.config.loading import flat_settings, load_config
from ramda_cli.config.schema import RunConfig
from ramda_cli.errors import ConfigError, FileFormatError, OutputError
from ramda_cli.export import read_state
from ramda_cli.pipeline.summary import now, this_command
from ramda_cli.pipeline.workspace import DECIDED, STATE, Workspace

_MAY_DIFFER = ("output", "training.device", "data.workers", "data.eval_batch_size")
"""Settings that do not change what is computed, or only its rounding."""


@dataclass(frozen=True)
class Run:
    """What stays the same when a run goes on after an interruption.

    Attributes:
        config: its settings when it began.
        command, date: with which, and when that was.
        data: fingerprint; empty before the data was opened.
        processes: that trained together.
        device: on which.
    """

    config: RunConfig
    command: str
    date: str
    data: str = ""
    processes: int = 1
    device: str = ""

    def to_state(self) -> dict[str, Any]:
        """Return it for a checkpoint."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "config": self.config.model_dump(mode="json")}


@dataclass(frozen=True)
class Earlier:
    """What an interrupted run left.

    Attributes:
        run: which it was.
        state: the latest checkpoint.
        decided: that of the moment when the zero set was final; None before it.
    """

    run: Run
    state: Path
    decided: Path | None

    def read(self) -> dict[str, Any]:
        """Return where training stood last."""
        return read_state(self.state, "training")

    def read_decided(self) -> dict[str, Any] | None:
        """Return where it stood when the zero set was final."""
        return None if self.decided is None else read_state(self.decided, "training")


def new_run(config: RunConfig) -> Run:
    """Return a run that begins now."""
    return Run(
        config=config,
        command=this_command(),
        date=now(),
    )


def notes_on(earlier: Earlier, run: Run) -> tuple[str, ...]:
    """Tell what differs where a run goes on, and what follows from it."""
    before, notes = earlier.run, []
    if before.processes != run.processes:
        notes.append(
            f"begun by {before.processes} processes, goes on with {run.processes}: the batches are"
            " the same, what is dropped out of the network and the rounding are not"
        )
    if before.device != run.device:
        notes.append(
            f"begun on {before.device}, goes on on {run.device}: results differ by rounding"
        )
    return tuple(notes)


def finished_report(workspace: Workspace, config: RunConfig) -> dict[str, object] | None:
    """Return the report of a run of these settings that has succeeded; None where there is none.

    Raises:
        ConfigError: the directory holds the result of other settings.
    """
    if not workspace.finished:
        return None
    _require_same(workspace, config)
    document: dict[str, object] = json.loads(workspace.path("report.json").read_text())
    return document


def find_earlier(workspace: Workspace, config: RunConfig) -> Earlier | None:
    """Return what there is to go on with; None where a run of these settings has to begin anew.

    Raises:
        ConfigError: the directory holds a run with other settings.
        OutputError: it holds something else.
        FileFormatError: its checkpoint cannot be read.
    """
    workspace.check_free(overwrite=True)
    if not workspace.unfinished:
        return None
    _require_same(workspace, config)
    state = workspace.checkpoint(STATE)
    if not state.is_file():
        return None
    decided = workspace.checkpoint(DECIDED)
    try:
        stored = read_state(state, "run")
        run = Run(**{**stored, "config": RunConfig.model_validate(stored["config"])})
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"{state} is not the state of a run", hint="start anew with --overwrite"
        ) from error
    return Earlier(run, state, decided if decided.is_file() else None)


def other_setting(
    workspace: Workspace, config: RunConfig, *, may_differ: tuple[str, ...] = _MAY_DIFFER
) -> str | None:
    """Return how the run in a directory differs from one of these settings; None where it does not.

    A run that has not come to write its settings has none that differ.

    Args:
        workspace: of the run.
        config: the settings.
        may_differ: what their names begin with that need not be the same.

    Raises:
        ConfigError: what it has written cannot be read.
    """
    written = workspace.path("config.yaml")
    if not written.is_file():
        return None
    before, now = flat_settings(load_config(written, {}, ())), flat_settings(config)
    for key in sorted(before.keys() | now.keys()):
        if key.startswith(may_differ) or before.get(key) == now.get(key):
            continue
        return (
            f"the run in {workspace.directory} has {key} {_shown(before.get(key))}, and"
            f" {_shown(now.get(key))} is asked for"
        )
    return None


def _require_same(workspace: Workspace, config: RunConfig) -> None:
    """Refuse to go on with a run under other settings, if it has come to write its own."""
    other = other_setting(workspace, config)
    if other is not None:
        raise ConfigError(
            other,
            hint=f"`ramda prune --resume -o {workspace.directory}` alone goes on with it; for"
            " another run choose another -o, or --overwrite",
        )


def require_same_data(earlier: Earlier, fingerprint: str, directory: Path) -> None:
    """Refuse to go on with other data.

    Raises:
        OutputError: it is not what the run began with.
    """
    if earlier.run.data != fingerprint:
        raise OutputError(
            f"the run in {directory} began with other data: files or splits have changed",
            hint="bring them back, or start anew with --overwrite",
        )


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
