"""Whatever computes what a model does, run on the probe of its file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ramda_cli.errors import MODEL_FAILURES, FileFormatError, first_line
from ramda_cli.export import OnnxModel, Probe, TorchExported, in_order, load, make_probe, read_probe
from ramda_cli.export.probe import MOST_DRAWN
from ramda_cli.file_header import read_header
from ramda_cli.structure.export import with_batch
from ramda_cli.structure.running import runner
from ramda_cli.tasks.inputs import ExampleInputs, batch_size
from ramda_cli.verification import Check, check_probe
from ramda_cli.verification.proof import FLOAT64_TOLERANCE, WORKING_TOLERANCE

_Result = TypeVar("_Result")

LARGEST_BATCH = 1024
_OTHER_BATCHES = (1, 3)

HALF_TOLERANCE = 1e-2
"""Relative to the largest output: ten roundings to half precision."""


@dataclass(frozen=True, eq=False)
class Probed:
    """A file, the model in it, and its probe.

    Attributes:
        path: of the file.
        document: its header.
        model: loaded, in eval mode on the CPU.
        probe: from the header.
    """

    path: Path
    document: dict[str, Any]
    model: nn.Module
    probe: Probe


def open_probed(path: Path) -> Probed:
    """Load a file that has a probe.

    Raises:
        FileFormatError: it is damaged, or holds no probe.
        ModelError: its architecture is not known to this installation.
    """
    document = read_header(path)
    probe = read_probe(document)
    if probe is None:
        raise FileFormatError(
            f"{path} holds no probe, so what it computes cannot be checked",
            hint="write it again with this version; `ramda eval` measures it on data",
        )
    return Probed(path, document, load(path), probe)


def check_model(probed: Probed) -> tuple[Check, Check]:
    """Compare the loaded model with the stored outputs, in float64 and in float32."""

    def check(dtype: torch.dtype, tolerance: float) -> Check:
        return check_probe(
            probed.path.name,
            probed.probe,
            running(probed.path, runner(probed.model, dtype)),
            dtype=str(dtype).removeprefix("torch."),
            relative_tolerance=tolerance,
        )

    return check(torch.float64, FLOAT64_TOLERANCE), check(torch.float32, WORKING_TOLERANCE)


def check_onnx(probed: Probed, path: Path) -> tuple[Check, ...]:
    """Compare an ONNX file with the stored outputs, in the precision that it computes in.

    Raises:
        OutputError: ONNX Runtime does not take it.
        FileFormatError: the model does not run at its batch size.
    """
    exported = OnnxModel(path)
    dtype, tolerance = (
        ("float16", HALF_TOLERANCE) if exported.half else ("float32", WORKING_TOLERANCE)
    )
    return _check_batches(
        probed, path, exported.on, batch=exported.batch, dtype=dtype, relative_tolerance=tolerance
    )


def check_torch_export(probed: Probed, path: Path) -> tuple[Check, ...]:
    """Compare a `.pt2` file, which may unpickle, with the stored outputs.

    Raises:
        OutputError: torch does not load it.
        FileFormatError: the model does not run at its batch size.
    """
    exported = TorchExported(path)
    return _check_batches(
        probed,
        path,
        lambda inputs: exported.on(in_order(probed.model, inputs)),
        batch=exported.batch,
        dtype="float32",
        relative_tolerance=WORKING_TOLERANCE,
    )


def _check_batches(
    probed: Probed,
    path: Path,
    run: Callable[[ExampleInputs], list[Tensor]],
    *,
    batch: int | None,
    **how: Any,
) -> tuple[Check, ...]:
    """Compare at the one batch size, or where it is free at the probe's own and two others."""
    own = batch_size(probed.probe.inputs())
    batches = dict.fromkeys((own, *_OTHER_BATCHES)) if batch is None else (batch,)
    return tuple(
        check_probe(
            path.name if size == own else f"{path.name}, batch of {size},",
            probe_of_batch(probed, size),
            running(path, run),
            **how,
        )
        for size in batches
    )


def probe_of_batch(probed: Probed, batch: int) -> Probe:
    """Return the stored probe, or for another batch size one that the loaded model gives.

    Raises:
        FileFormatError: the model does not run at this size.
    """
    if batch == batch_size(probed.probe.inputs()):
        return probed.probe
    make = running(probed.path, lambda example: make_probe(probed.model, example))
    probe = make(inputs_of_batch(probed, batch))
    if probe is None:
        raise _cannot_check(probed, batch)
    return probe


def inputs_of_batch(probed: Probed, batch: int) -> ExampleInputs:
    """Return as many inputs as `batch`, those of the probe over and over.

    Raises:
        FileFormatError: they are too many; both the probe and an export's batch are untrusted.
    """
    inputs = probed.probe.inputs()
    elements = sum(t.numel() for t in pytree.tree_leaves(inputs) if isinstance(t, Tensor))
    if batch > LARGEST_BATCH or batch * elements > MOST_DRAWN * batch_size(inputs):
        raise _cannot_check(probed, batch)
    return with_batch(inputs, batch)


def _cannot_check(probed: Probed, batch: int) -> FileFormatError:
    return FileFormatError(
        f"what {probed.path} computes on a batch of {batch:,} cannot be checked",
        hint="export it for a free batch, or for a smaller one",
    )


def running(
    path: Path, run: Callable[[ExampleInputs], _Result]
) -> Callable[[ExampleInputs], _Result]:
    """Turn what goes wrong in running an untrusted file's model into an error for the user."""

    def guarded(inputs: ExampleInputs) -> _Result:
        try:
            return run(inputs)
        # The graph and the inputs may be anything that a file can hold.
        except MODEL_FAILURES as error:
            raise FileFormatError(
                f"{path} does not run on its probe: {first_line(error)}",
                hint="copy it again, or write it again with `ramda prune`",
            ) from error

    return guarded
