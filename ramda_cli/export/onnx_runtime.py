"""Run an ONNX file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors
from torch import Tensor
from torch.utils import _pytree as pytree

from ramda_cli.errors import OutputError, first_line
from ramda_cli.export.calling import in_float32
from ramda_cli.tasks.inputs import ExampleInputs

_RUNTIME_ERRORS = (
    runtime_errors.Fail,
    runtime_errors.InvalidArgument,
    runtime_errors.InvalidGraph,
    runtime_errors.InvalidProtobuf,
    runtime_errors.NoSuchFile,
    runtime_errors.NotImplemented,
    runtime_errors.RuntimeException,
)


class OnnxModel:
    """An ONNX file in ONNX Runtime on the CPU.

    Args:
        path: of the file.
        threads: how many to use, which sleep between runs, so that two models can be timed in
            turns; ONNX Runtime's own choice when not given.

    Attributes:
        batch: the only batch size that it takes; None where it is free.
        half: whether it holds weights in half precision.

    Raises:
        OutputError: ONNX Runtime does not take the file, or the inputs of a call.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self._path = path
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except _RUNTIME_ERRORS as error:
            raise _failed("open", path, error) from error
        arguments = self._session.get_inputs()
        self._names = [argument.name for argument in arguments]
        sizes = {argument.shape[0] for argument in arguments if argument.shape}
        only = next(iter(sizes), None)
        self.batch = only if len(sizes) == 1 and isinstance(only, int) else None
        weights = onnx.load(path, load_external_data=False).graph.initializer
        self.half = any(weight.data_type == onnx.TensorProto.FLOAT16 for weight in weights)

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs for the inputs in the file's order."""
        feed = {n: t.detach().cpu().numpy() for n, t in zip(self._names, inputs, strict=True)}
        try:
            return [torch.from_numpy(output) for output in self._session.run(None, feed)]
        except _RUNTIME_ERRORS as error:
            raise _failed("run", self._path, error) from error

    def on(self, inputs: ExampleInputs) -> list[Tensor]:
        """Return the outputs for inputs as the model takes them; floating ones become fp32."""
        converted = in_float32(inputs)
        if isinstance(converted, Mapping) and set(self._names) <= set(converted):
            return self([converted[name] for name in self._names])
        return self([leaf for leaf in pytree.tree_leaves(converted) if isinstance(leaf, Tensor)])


def _failed(what: str, path: Path, error: Exception) -> OutputError:
    return OutputError(
        f"cannot {what} {path}: {first_line(error)}",
        hint="write it again, or skip it with --no-onnx",
    )
