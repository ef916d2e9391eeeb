"""`ramda remove` as a straight line: load, discover, fold constants, remove, verify, export."""

import copy
from collections.abc import Mapping
from typing import Any

from ramda_cli.config.schema import RemoveConfig
from ramda_cli.data.build import build_data
from ramda_cli.data.bundle import DataBundle
from ramda_cli.errors import DataError, OutputError, StructureError
from ramda_cli.models.checkpoint import Checkpoint, load_checkpoint
from ramda_cli.observer import Observer
from ramda_cli.pipeline.describing import describe
from ramda_cli.pipeline.files import discarding_unproven, write_files
from ramda_cli.pipeline.proving import proof_batches, prove
from ramda_cli.pipeline.summary import (
    Outcome,
    now,
    reproducibility,
    summarize,
    this_command,
)
from ramda_cli.pipeline.workspace import Workspace
from ramda_cli.report.document import Asked
from ramda_cli.report.formatting import counted
from ramda_cli.structure import discover, identify
from ramda_cli.structure.cost import CostModel
from ramda_cli.surgery import fold_constants_
from ramda_cli.surgery import remove as remove_channels
from ramda_cli.surgery.zero_slices import Zeros, ZeroSlices, count_zeros
from ramda_cli.tasks import IMAGE_CLASSIFICATION


def remove(config: RemoveConfig, observer: Observer) -> dict[str, object]:
    """Take the zero and constant channels out of a checkpoint and return the report.

    The proof compares with the checkpoint as it was, masks applied. Nothing is written before it
    is known that something can go.

    Raises:
        RamdaError: with the message, the hint and the exit code that the user meets.
    """
    workspace = Workspace(config.output.directory)
    workspace.check_free(overwrite=config.output.overwrite)

    observer.stage("load", str(config.checkpoint))
    checkpoint = load_checkpoint(
        config.checkpoint, model=config.model, image_size=config.image_size
    )
    _check_apart(checkpoint, workspace)
    data = _load_data(config, checkpoint)
    notes = (*checkpoint.notes, *(data.notes if data is not None else ()))
    for note in notes:
        observer.note(note)

    observer.stage("discover", "exporting")
    structure = discover(checkpoint.module, checkpoint.probes[0], keep=config.keep)
    cost = CostModel(structure)
    groups = counted(len(structure.groups), "group")
    observer.stage("discover", f"{groups}, {counted(cost.size().channels, 'channel')}")

    observer.stage("remove", "zero and constant channels")
    folded = copy.deepcopy(checkpoint.module)
    folding = fold_constants_(folded, structure)
    support = identify(folded, structure)
    zeros = count_zeros(checkpoint.module, structure, support, folding)
    if not support.removable:
        raise _nothing_to_remove(config, zeros)
    remarks = (*_describe("filters", zeros.filters), *_describe("input slices", zeros.inputs))
    for note in remarks:
        observer.note(note)
    smaller, plan = remove_channels(folded, structure, support, source=checkpoint.source)
    removed = cost.size().channels - cost.size(cost.kept(support.removable)).channels
    observer.stage("remove", counted(removed, "channel"))

    observer.stage("verify", "float64 and float32")
    batches = checkpoint.probes if data is None else proof_batches(data.val)
    proven = prove(checkpoint.module, smaller, batches, data)
    observer.stage("verify", f"difference {proven.proof.max_abs_difference:.1e} in float64")

    observer.stage("export", "model.safetensors")
    workspace.start()
    with discarding_unproven(workspace):
        files = write_files(
            workspace, smaller, plan, proven,
            details=_details(checkpoint, data), onnx=config.output.onnx, observer=observer,
        )  # fmt: skip
        outcome = Outcome(
            source=checkpoint.source, classes=len(checkpoint.labels), dense=checkpoint.module,
            data=data, asked=Asked(), structure=structure, support=support, cost=cost, files=files,
            notes=(*notes, *remarks, *files.notes),
            again=reproducibility(
                config, seed=0, device="cpu", command=this_command(), date=now()
            ),
        )  # fmt: skip
        document = files.finish(lambda listed: summarize(outcome, listed))
    workspace.finish()
    observer.stage("done", str(workspace.directory))
    return document


def _check_apart(checkpoint: Checkpoint, workspace: Workspace) -> None:
    """Refuse to replace the checkpoint by what becomes of it."""
    if checkpoint.file.resolve().parent == workspace.directory.resolve():
        raise OutputError(
            f"the checkpoint is in {workspace.directory} itself", hint="choose another -o"
        )


def _load_data(config: RemoveConfig, checkpoint: Checkpoint) -> DataBundle | None:
    if config.data is None:
        return None
    if checkpoint.preprocessing is None:
        raise DataError(
            f"{config.checkpoint} does not say what its images must look like",
            hint="leave out --data: the proof then takes random inputs",
        )
    data = build_data(config.data, checkpoint.preprocessing, seed=0)
    if len(data.class_names) != len(checkpoint.labels):
        raise DataError(
            f"{config.checkpoint} tells {len(checkpoint.labels)} classes apart, "
            f"{config.data.name} has {len(data.class_names)}",
            hint="give the data that it was trained on",
        )
    return data


def _details(checkpoint: Checkpoint, data: DataBundle | None) -> Mapping[str, Any]:
    labels = checkpoint.labels if data is None else data.class_names
    if checkpoint.preprocessing is None:
        return {"labels": list(labels)} if labels else {}
    return describe(IMAGE_CLASSIFICATION, labels, checkpoint.preprocessing)


def _nothing_to_remove(config: RemoveConfig, zeros: Zeros) -> StructureError:
    """Say why: no zeros, zeros that are no slices, or slices of channels that must stay."""
    share = f"{100 * zeros.share:.1f} % of its weights are zero"
    slices = zeros.filters.found + zeros.inputs.found
    if not slices:
        return StructureError(
            f"nothing in {config.checkpoint} can be removed: {share}, and no whole channel is",
            hint="zeros must fill whole channels, as torch.nn.utils.prune.ln_structured makes them",
        )
    parts = (*_describe("filters", zeros.filters), *_describe("input slices", zeros.inputs))
    return StructureError(
        f"nothing in {config.checkpoint} can be removed: {'; '.join(parts)}",
        hint="`ramda inspect MODEL` lists which channels can go and why others stay",
    )


def _describe(name: str, slices: ZeroSlices) -> tuple[str, ...]:
    """Return one sentence about the zero slices of a side, or none where there are none."""
    if not slices.found:
        return ()
    removed = f"{slices.removed:,} of {slices.found:,} zero {name} removed"
    staying = [f"{count:,} stay ({reason})" for reason, count in slices.staying.items()]
    return (", ".join([removed, *staying]),)
