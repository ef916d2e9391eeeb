"""From what a run found to its report."""

import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy
import onnxruntime
import timm
import torch
from pydantic import BaseModel
from torch import nn

import ramda_cli
from ramda_cli.data.bundle import DataBundle
from ramda_cli.models.loaded import ModelSource
from ramda_cli.pipeline.files import WrittenFiles
from ramda_cli.pipeline.inspect import fixed_entries
from ramda_cli.pipeline.latency import Stopwatch
from ramda_cli.pipeline.layers import layer_entries
from ramda_cli.pipeline.targets import reached, reached_latency
from ramda_cli.report.document import (
    Accuracy,
    Asked,
    CheckEntry,
    DataEntry,
    EpochEntry,
    FileEntry,
    GroupEntry,
    Latency,
    MatrixEntry,
    ModelEntry,
    ProofEntry,
    Reached,
    Report,
    Reproducibility,
    Sizes,
    TrainingEntry,
)
from ramda_cli.report.document import Size as SizeEntry
from ramda_cli.structure import Structure, Support
from ramda_cli.structure.cost import CostModel
from ramda_cli.structure.size_terms import Counts
from ramda_cli.training import Budget, Limit, Trained
from ramda_cli.verification import Proof

_LAYOUTS = {
    "native": "native module with patched sizes",
    "graph": "graph of ATen operations (no Python code of the model needed)",
}


@dataclass(frozen=True, eq=False)
class Outcome:
    """Everything a run found, stage by stage.

    Attributes:
        source, classes: of the model.
        dense: it, before the removal.
        data: None when there was none.
        asked: of the run.
        structure, support, cost: what was found, and what of it is zero.
        budget: None when no size was asked for.
        trained: None when nothing was.
        files: what was written.
        new_head: whether the head was replaced before training.
        notes: sentences for the user.
        again: what it takes to run this again.
        license: of the weights that the run started from, where it is known.
        latency: None where it was not measured.
        lost: ranks that went, by parameter.
        matrices: the report's entries for weights that could lose ranks.
    """

    source: ModelSource
    classes: int
    dense: nn.Module
    data: DataBundle | None
    asked: Asked
    structure: Structure
    support: Support
    cost: CostModel
    files: WrittenFiles
    notes: tuple[str, ...]
    again: Reproducibility
    budget: Budget | None = None
    trained: Trained | None = None
    new_head: bool = False
    license: str | None = None
    latency: Latency | None = None
    lost: Mapping[str, range] = field(default_factory=dict)
    matrices: tuple[MatrixEntry, ...] = ()

    @property
    def kept(self) -> Counts:
        """Channels of each group, and ranks, that are left."""
        return self.cost.kept({**self.support.removable, **self.lost})


def summarize(outcome: Outcome, files: tuple[FileEntry, ...]) -> Report:
    """Return the report of a run."""
    source = outcome.source
    first, *further = _reached(outcome)
    return Report(
        model=ModelEntry(
            name=source.name,
            kind=source.kind,
            weights=source.weights,
            classes=outcome.classes,
            license=outcome.license,
        ),
        data=_data(outcome.data),
        asked=outcome.asked,
        reached=first,
        further=tuple(further),
        size=_sizes(outcome),
        accuracy=_accuracy(outcome),
        latency=outcome.latency,
        proof=_proof(outcome.files.proven.proof),
        groups=_groups(outcome),
        fixed=fixed_entries(outcome.structure.fixed),
        layers=tuple(layer_entries(outcome.dense, outcome.structure, outcome.files.plan)),
        matrices=outcome.matrices,
        training=_training(outcome.trained),
        layout=_layout(outcome.files),
        files=files,
        notes=outcome.notes,
        reproducibility=outcome.again,
    )


def reproducibility(
    config: BaseModel, *, seed: int, device: str, command: str, date: str
) -> Reproducibility:
    """Return what it takes to run this again: settings, versions, device and command."""
    return Reproducibility(
        config=config.model_dump(mode="json"),
        seed=seed,
        versions={
            "ramda": ramda_cli.__version__,
            "torch": torch.__version__,
            "timm": timm.__version__,
            "numpy": numpy.__version__,
            "onnxruntime": onnxruntime.__version__,
            "python": platform.python_version(),
        },
        device=device,
        date=date,
        command=command,
    )


def this_command() -> str:
    """Return the command line of this process."""
    return shlex.join(["ramda", *sys.argv[1:]])


def now() -> str:
    """Return the time as reports have it."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _data(data: DataBundle | None) -> DataEntry | None:
    if data is None:
        return None
    return DataEntry(
        description=data.description,
        fingerprint=data.fingerprint,
        train_size=data.train_size,
        val_size=data.val_size,
        hub_id=data.hub_id,
    )


def _layout(files: WrittenFiles) -> str:
    graphs = len(files.plan.submodules) if files.layout == "native" else 0
    note = f"; {graphs} of its submodules run as graphs" if graphs else ""
    alone = "; transformers loads the directory alone" if files.alone else ""
    return _LAYOUTS[files.layout] + note + alone


def _reached(outcome: Outcome) -> tuple[Reached, ...]:
    cost, budget = outcome.cost, outcome.budget
    kept = outcome.kept
    if budget is None:
        count, dense = cost.macs(kept), cost.macs(cost.channels)
        return (Reached(metric="macs", share=count / dense, count=count, met=True),)
    return tuple(
        reached_latency(outcome.latency, outcome.asked.amounts[limit.metric])
        if limit.metric == "latency" and outcome.latency is not None
        else reached(limit, _measured(limit, cost, kept))
        for limit in budget.limits
    )


def _measured(limit: Limit, cost: CostModel, kept: Counts) -> int:
    """Return a cost; a latency that no benchmark told, as it was when the channels were chosen."""
    if isinstance(limit.measured, Stopwatch):
        reading = limit.measured.readings.get(tuple(kept.tolist()))
        if reading is not None:
            return round(reading)
    return cost.measure(limit.metric, kept)


def _sizes(outcome: Outcome) -> Sizes:
    cost = outcome.cost
    dense, pruned = cost.size(), cost.size(outcome.kept)
    models = (outcome.dense, outcome.files.smaller)
    entries = [
        SizeEntry(
            params=size.params,
            macs=size.macs,
            channels=size.channels,
            bytes=sum(t.numel() * t.element_size() for t in model.state_dict().values()),
        )
        for size, model in zip((dense, pruned), models, strict=True)
    ]
    return Sizes(dense=entries[0], pruned=entries[1])


def _accuracy(outcome: Outcome) -> Accuracy | None:
    proven, trained = outcome.files.proven, outcome.trained
    if proven.data is None or proven.before is None or proven.after is None:
        return None
    metric = proven.data.task.metric
    dense = None if trained is None or outcome.new_head else trained.history[0].metric
    return Accuracy(
        metric=metric.name,
        is_share=metric.is_share,
        higher_is_better=metric.higher_is_better,
        hub_id=metric.hub_id,
        dense=dense,
        before_removal=proven.before,
        after_removal=proven.after,
        recovered=proven.recovered,
        reloaded=outcome.files.reloaded,
        onnx=outcome.files.onnx,
    )


def _proof(proof: Proof) -> ProofEntry:
    return ProofEntry(
        passed=proof.passed,
        checks=tuple(
            CheckEntry(
                name=check.name,
                dtype=check.dtype,
                max_abs_difference=check.max_abs_difference,
                relative_difference=check.relative_difference,
                tolerance=check.tolerance,
                inputs=check.inputs,
                passed=check.passed,
            )
            for check in proof.checks
        ),
    )


def _groups(outcome: Outcome) -> tuple[GroupEntry, ...]:
    return tuple(
        GroupEntry(
            name=group.name,
            channels=group.channels,
            kept=group.channels - len(outcome.support.removable.get(group.name, ())),
            parameters=tuple(dict.fromkeys(part.parameter for part in group.coupled)),
            held=len(outcome.support.held.get(group.name, ())),
        )
        for group in outcome.structure.groups
    )


def _training(trained: Trained | None) -> TrainingEntry | None:
    if trained is None:
        return None
    return TrainingEntry(
        method=trained.method,
        epochs=trained.history[-1].epoch,
        steps=trained.steps,
        seconds=trained.seconds,
        history=tuple(
            EpochEntry(
                epoch=e.epoch,
                loss=e.loss,
                metric=e.metric,
                group_sparsity=e.group_sparsity,
                macs_share=e.macs_share,
                lr=e.lr,
                certificate=e.certificate,
                zero_set_change=e.zero_set_change,
                low_rank_level=e.low_rank_level,
                skipped_steps=e.skipped_steps,
            )
            for e in trained.history
        ),
        zero_set_stability=trained.zero_set_stability,
        removal_epoch=trained.removal_epoch,
    )
