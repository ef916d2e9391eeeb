"""Write a model as ONNX."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch
from onnxscript.ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn
from torch.onnx import ONNXProgram

from ramda_cli.errors import OutputError, first_line
from ramda_cli.export.calling import in_float32, in_order
from ramda_cli.export.silence import quiet
from ramda_cli.export.tensor_file import replace_durably
from ramda_cli.structure.export import export_graph
from ramda_cli.tasks.inputs import ExampleInputs

_MAX_EMBEDDED_BYTES = 1_900_000_000  # a protobuf file ends at 2 GiB
_FAILURES = (RuntimeError, ValueError, TypeError, OSError)


def export_onnx(
    model: nn.Module,
    path: Path,
    example_inputs: ExampleInputs,
    *,
    opset: int | None = None,
    fixed: bool = False,
    half: bool = False,
    free_length: bool = False,
) -> None:
    """Write `model` as ONNX; weights above 1.9 GB go to `<path>.data`.

    Args:
        model: in fp32, on any device; it is exported from the CPU and left as it is.
        path: where to write.
        example_inputs: as for `discover`, the batch first. Keyword inputs keep their names.
        opset: of the operators; the exporter's choice by default.
        fixed: whether only inputs of the example's sizes are taken; else the batch size is free.
        free_length: whether texts may have any length; sizes are those of dimension 1.
        half: whether to compute in half precision; inputs and outputs stay in fp32.

    Raises:
        OutputError: the model cannot be exported or the file not written.
    """
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        program = _translate(
            model.cpu(), example_inputs, opset=opset, fixed=fixed, free_length=free_length
        )
        # Stack traces with this machine's paths, in every node.
        ClearMetadataAndDocStringPass()(program.model)
        # A file beside it is named in the model: it is written under its final name elsewhere.
        with TemporaryDirectory(dir=path.parent, suffix=".partial") as directory:
            written = Path(directory) / path.name
            if half:
                onnx.save(_in_half_precision(program.model_proto), written)
            else:
                program.save(written, external_data=size > _MAX_EMBEDDED_BYTES)
            for file in sorted(written.parent.iterdir(), reverse=True):
                replace_durably(file, path.with_name(file.name))
    except _FAILURES as error:
        raise OutputError(
            f"cannot write {path}: {_reason(error)}", hint="skip it with --no-onnx"
        ) from error
    finally:
        model.to(device)


def require_onnx(
    model: nn.Module, example_inputs: ExampleInputs, *, free_length: bool = False
) -> None:
    """Translate a model on the CPU, and keep nothing, to know before training that it can be done.

    Raises:
        OutputError: the model cannot be exported.
    """
    try:
        _translate(model, example_inputs, free_length=free_length)
    except _FAILURES as error:
        raise OutputError(
            f"the model cannot be written as ONNX: {_reason(error)}",
            hint="leave that file out with --no-onnx",
        ) from error


def _translate(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    opset: int | None = None,
    fixed: bool = False,
    free_length: bool = False,
) -> ONNXProgram:
    inputs = in_float32(example_inputs)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            export_graph(model, in_order(model, inputs), fixed=fixed, free_length=free_length),
            dynamo=True,
            input_names=_input_names(model, inputs),
            opset_version=opset,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    if opset not in (None, program.model.opset_imports[""]):
        raise ValueError(f"torch {torch.__version__} has no exporter for opset {opset}")
    return program


def _reason(error: BaseException) -> str:
    """Return what was the matter; the exporter's own message only tells in which step."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def _in_half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    # Imported when it is used: the package puts its directory on sys.path.
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(model, keep_io_types=True)


def _input_names(model: nn.Module, inputs: ExampleInputs) -> list[str] | None:
    """Return `input`, `input1`, ... for positional inputs; None keeps the model's own names."""
    if isinstance(inputs, Mapping):
        ordered = in_order(model, inputs)
        return (
            None if ordered is inputs else [k for k, v in inputs.items() if isinstance(v, Tensor)]
        )
    count = 1 if isinstance(inputs, Tensor) else len(inputs)
    return [f"input{i}" if i else "input" for i in range(count)]
