"""The state of a run in a safetensors file: nested values, bit by bit, and no pickle.

Tensors are stored by number, as they lie in memory, which some kernels' rounding depends on.
Everything around them is JSON in the header.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ramda_cli.errors import FileFormatError
from ramda_cli.export.tensor_file import write_tensors

_VERSION: Final = "3"
_KEY: Final = "ramda_state"

State = Mapping[str, Any]
"""Of dicts, lists, tuples, tensors, strings, numbers, booleans and None."""


def write_state(state: State, path: Path) -> None:
    """Write a state, whole or not at all.

    Raises:
        OSError: the file cannot be written.
        SafetensorError: the same, as the library reports it.
    """
    tensors: dict[str, Tensor] = {}
    document = json.dumps(_encode(state, tensors))
    write_tensors(tensors, path, metadata={_KEY: document, "ramda_state_version": _VERSION})


def read_state(path: Path, key: str) -> dict[str, Any]:
    """Read one value of what `write_state` wrote; tensors are on the CPU, and own their memory.

    Raises:
        FileFormatError: it is not such a file, or of another version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("ramda_state_version") != _VERSION:
                raise FileFormatError(
                    f"{path} holds no state of this version of ramda",
                    hint="go on with the version that wrote it, or start anew with --overwrite",
                )
            values = dict(json.loads(metadata[_KEY])["dict"])
            # A copy of its own is aligned as memory that torch allocates is.
            return _decode(values[key], lambda name: file.get_tensor(name).clone())
    except (OSError, SafetensorError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"{path} cannot be read: {error}", hint="start anew with --overwrite"
        ) from error


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name, dense = str(len(tensors)), _dense(value.detach())
        tensors[name] = dense.as_strided((dense.numel(),), (1,))
        return {"tensor": name, "shape": [*dense.shape], "stride": [*dense.stride()]}
    if isinstance(value, Mapping):
        return {"dict": [[_encode(k, tensors), _encode(v, tensors)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(each, tensors) for each in value]}
    if isinstance(value, list):
        return [_encode(each, tensors) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a state cannot hold {type(value).__name__}")


def _decode(value: Any, tensor: Callable[[str], Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(each, tensor) for each in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensor(value["tensor"]).as_strided(value["shape"], value["stride"])
    if "tuple" in value:
        return tuple(_decode(each, tensor) for each in value["tuple"])
    return {_decode(k, tensor): _decode(v, tensor) for k, v in value["dict"]}


def _dense(tensor: Tensor) -> Tensor:
    """Return a tensor whose elements fill its memory without gaps, with its strides if it can be.

    Strides of dimensions of size 1 count too: kernels ask whether they are equal.
    """
    order = sorted(range(tensor.ndim), key=lambda dim: -tensor.stride()[dim])
    dense = tensor.numel() > 0 and tensor.permute(order).is_contiguous()
    return tensor if dense else tensor.contiguous()
