"""A probe as JSON, and back: every size and type is checked before anything is made of it."""

import math
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from ramda_cli.errors import FileFormatError
from ramda_cli.export.probe import (
    FLOATING,
    INTEGER,
    MOST_VALUES,
    Drawn,
    Probe,
    StoredOutput,
    checksum,
    within_bounds,
)

_FLOATING: Final = {str(dtype).removeprefix("torch."): dtype for dtype in FLOATING}
_INTEGER: Final = {str(dtype).removeprefix("torch."): dtype for dtype in INTEGER}
_MOST_DIMENSIONS: Final = 8
_MOST_SEED: Final = 2**32


def probe_to_json(probe: Probe) -> dict[str, Any]:
    """Return a JSON document that `read_probe` reads."""
    return {
        "seed": probe.seed,
        "inputs": _encode(probe.described),
        "checksum": checksum(probe.inputs()),
        "outputs": [
            {
                "shape": list(output.shape),
                "step": output.step,
                "values": list(output.values),
                "largest": output.largest,
                "rms": output.rms,
            }
            for output in probe.outputs
        ],
    }


def read_probe(document: Mapping[str, Any]) -> Probe | None:
    """Read the probe of a file's untrusted document.

    Args:
        document: from `read_header`.

    Returns:
        None when the file has none.

    Raises:
        FileFormatError: it is malformed or too large.
    """
    stored = document.get("probe")
    if stored is None:
        return None
    try:
        probe = Probe(_inputs(stored["inputs"]), _outputs(stored["outputs"]), _seed(stored["seed"]))
        intact = checksum(probe.inputs()) == stored["checksum"]
    except (
        AttributeError, LookupError, OverflowError, RecursionError, RuntimeError, TypeError,
        ValueError,
    ) as error:  # fmt: skip
        raise _malformed(f"its probe cannot be read ({error})") from error
    if not intact:
        raise _malformed("the inputs of its probe are not those it was written with")
    return probe


def _inputs(value: Any) -> Any:
    described = _decode(value)
    if not isinstance(described, tuple | dict):
        raise ValueError("inputs are neither positional nor by keyword")
    if not within_bounds(described):
        raise ValueError("too many inputs, or an empty one")
    return described


def _outputs(values: Any) -> tuple[StoredOutput, ...]:
    outputs = tuple(_output(value) for value in values)
    if not outputs:
        raise ValueError("no output")
    return outputs


def _output(value: Any) -> StoredOutput:
    shape, step = _shape(value["shape"]), value["step"]
    values = tuple(_finite(number) for number in value["values"])
    if type(step) is not int or step < 1 or len(values) > MOST_VALUES:
        raise ValueError("an output with an impossible step")
    if len(values) != -(-math.prod(shape) // step):
        raise ValueError(f"{len(values)} values of an output of shape {list(shape)}")
    return StoredOutput(shape, step, values, _finite(value["largest"]), _finite(value["rms"]))


def _seed(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MOST_SEED:
        raise ValueError(f"seed {value!r}")
    return value


def _encode(value: Any) -> Any:
    match value:
        case Drawn():
            return {"uniform": {"dtype": _name(value.dtype), "shape": list(value.shape)}}
        case Tensor():
            return {
                "tensor": {
                    "dtype": _name(value.dtype),
                    "shape": list(value.shape),
                    "values": value.reshape(-1).tolist(),
                }
            }
        case list():
            return [_encode(item) for item in value]
        case tuple():
            return {"tuple": [_encode(item) for item in value]}
        case Mapping():
            return {"dict": {key: _encode(item) for key, item in value.items()}}
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "uniform":
            return Drawn(_FLOATING[content["dtype"]], _shape(content["shape"]))
        case "tensor":
            return _tensor(_INTEGER[content["dtype"]], _shape(content["shape"]), content["values"])
        case "tuple":
            return tuple(_decode(item) for item in content)
        case "dict":
            return {key: _decode(item) for key, item in content.items()}
    raise ValueError(f"an input of kind {kind!r}")


def _tensor(dtype: torch.dtype, shape: tuple[int, ...], values: Any) -> Tensor:
    number = bool if dtype == torch.bool else int
    if not isinstance(values, list) or any(type(value) is not number for value in values):
        raise ValueError("a stored input that is not integers")
    if len(values) != math.prod(shape):
        raise ValueError(f"{len(values)} values of an input of shape {list(shape)}")
    return torch.tensor(values, dtype=dtype).reshape(shape)


def _shape(value: Any) -> tuple[int, ...]:
    sizes = isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)
    if not sizes or len(value) > _MOST_DIMENSIONS:
        raise ValueError("an impossible shape")
    return tuple(value)


def _finite(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError("a number that is none")
    return float(value)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _malformed(what: str) -> FileFormatError:
    return FileFormatError(
        f"the file is damaged: {what}", hint="copy it again, or write it again with `ramda prune`"
    )
