"""ONNX: write a model, and run what was written."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ramda_cli.errors import OutputError
from ramda_cli.structure.export import ExampleInputs, export_graph

_MAX_EMBEDDED_BYTES = 1_900_000_000  # a protobuf file ends at 2 GiB
_RUNTIME_ERRORS = (
    runtime_errors.Fail,
    runtime_errors.InvalidArgument,
    runtime_errors.InvalidGraph,
    runtime_errors.InvalidProtobuf,
    runtime_errors.NoSuchFile,
    runtime_errors.NotImplemented,
    runtime_errors.RuntimeException,
)


def export_onnx(model: nn.Module, path: Path, example_inputs: ExampleInputs) -> None:
    """Write `model` as ONNX with a free batch size; weights above 1.9 GB go to `<path>.data`.

    Args:
        model: in fp32, on any device; it is exported from the CPU and left as it is.
        path: where to write.
        example_inputs: as for `discover`, the batch first. Keyword inputs keep their names.

    Raises:
        OutputError: the model cannot be exported or the file not written.
    """
    inputs = pytree.tree_map(_input, example_inputs)
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                export_graph(model.cpu(), inputs),
                dynamo=True,
                input_names=_input_names(inputs),
                verbose=False,
            )
            if program is None:
                raise RuntimeError("torch.onnx.export returned nothing")
            program.save(path, external_data=size > _MAX_EMBEDDED_BYTES)
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        for written in (path, path.with_name(f"{path.name}.data")):
            written.unlink(missing_ok=True)
        raise _failed("write", path, error) from error
    finally:
        model.to(device)


def open_onnx(
    path: Path, *, threads: int | None = None
) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """Return a function that runs an ONNX file in ONNX Runtime on the CPU.

    Args:
        path: of the file.
        threads: how many to use, which sleep between runs, so that two models can be timed in
            turns; ONNX Runtime's own choice when not given.

    Raises:
        OutputError: ONNX Runtime does not take it; the returned function raises it too.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except _RUNTIME_ERRORS as error:
        raise _failed("open", path, error) from error
    names = [argument.name for argument in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        feed = {n: t.detach().cpu().numpy() for n, t in zip(names, inputs, strict=True)}
        try:
            return [torch.from_numpy(output) for output in session.run(None, feed)]
        except _RUNTIME_ERRORS as error:
            raise _failed("run", path, error) from error

    return run


def _input_names(inputs: ExampleInputs) -> list[str] | None:
    """Return `input`, `input1`, ... for positional inputs."""
    if isinstance(inputs, Mapping):
        return None
    count = 1 if isinstance(inputs, Tensor) else len(inputs)
    return [f"input{i}" if i else "input" for i in range(count)]


def _input(tensor: Any) -> Any:
    if not isinstance(tensor, Tensor):
        return tensor
    moved = tensor.detach().cpu()
    return moved.float() if moved.is_floating_point() else moved


def _failed(what: str, path: Path, error: Exception) -> OutputError:
    first_line = next(iter(str(error).strip().splitlines()), repr(error))
    return OutputError(f"cannot {what} {path}: {first_line}", hint="skip it with --no-onnx")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and warnings off the terminal."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
