"""A pruned model's tensors in a class of its library as it is: dense, or as its sizes allow."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ramda_cli.errors import FileFormatError, ModelError, first_line
from ramda_cli.models.building import build_module
from ramda_cli.models.loaded import ModelSource

_SIZES = (
    "intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim", "n_inner",
    "d_ff", "num_key_value_heads", "num_attention_heads", "num_heads",
)  # fmt: skip
"""Settings of transformers' configurations that say one width for every layer."""


def dense_module(
    source: ModelSource, smaller: Mapping[str, Tensor], kept: Mapping[str, Any]
) -> nn.Module:
    """Return the dense class, with zeros where channels were removed.

    Args:
        source: of the dense class.
        smaller: tensors by name, tied ones under each of their names.
        kept: from the plan, by tensor and dimension, for every name.

    Raises:
        FileFormatError: the plan does not fit the tensors.
    """
    module = build_module(source)
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    held = _complete(source, shapes, smaller)
    module.load_state_dict(
        {
            name: _scattered(name, held[name], shape, kept.get(name))
            for name, shape in shapes.items()
        }
    )
    return module


def uniform_module(
    source: ModelSource, smaller: Mapping[str, Tensor]
) -> tuple[nn.Module, ModelSource]:
    """Return the class with the smaller tensors, where its configuration can say their sizes.

    Raises:
        ModelError: it cannot, because layers differ or no setting says a width.
    """
    held = _complete(source, _shapes(source), smaller)
    fitted = _fitted(source, held) if source.kind == "huggingface" else source
    try:
        shapes = _shapes(fitted)
    except ModelError as error:
        # The dense sizes were taken just before, so these are what is refused.
        raise _only_dense(str(error).rstrip(".")) from error
    for name, shape in shapes.items():
        if shape != held[name].shape:
            raise _only_dense(
                f"{source.name} is built with {name} of shape {tuple(shape)}, not"
                f" {tuple(held[name].shape)}"
            )
    module = build_module(fitted)
    module.load_state_dict(held)
    return module, fitted


def _complete(
    source: ModelSource, shapes: Mapping[str, torch.Size], smaller: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the tensors of the class by name."""
    missing = next((name for name in shapes if name not in smaller), None)
    if missing is not None:
        raise ModelError(
            f"{source.name} needs {missing}, which the pruned model does not have",
            hint="--format onnx and torch-export take any model",
        )
    return {name: smaller[name] for name in shapes}


def _scattered(name: str, tensor: Tensor, shape: torch.Size, kept: Any) -> Tensor:
    """Put what was kept back into its places."""
    for dim, size in enumerate(shape):
        ranges = kept.get(str(dim)) if isinstance(kept, dict) else None
        if ranges is not None:
            positions = _positions(name, ranges, size)
            if tensor.ndim != len(shape) or len(positions) != tensor.shape[dim]:
                raise _does_not_fit(name)
            wide = tensor.new_zeros((*tensor.shape[:dim], size, *tensor.shape[dim + 1 :]))
            tensor = wide.index_copy_(dim, positions, tensor)
    if tensor.shape != shape:
        raise _does_not_fit(name)
    return tensor


def _positions(name: str, ranges: Any, size: int) -> Tensor:
    """Return the positions of ascending half-open ranges from an untrusted plan."""
    last = 0
    parts = []
    for one in ranges if isinstance(ranges, list) else [None]:
        match one:
            case [int() as start, int() as stop] if last <= start < stop <= size:
                parts.append(torch.arange(start, stop))
                last = stop
            case _:
                raise _does_not_fit(name)
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)


def _fitted(source: ModelSource, smaller: Mapping[str, Tensor]) -> ModelSource:
    """Return the source with every setting that says a width set to the smaller one.

    Which sizes a setting says is seen by building the class, without memory, with twice its value.
    """
    dense = _shapes(source)
    settings = dict(source.arguments)
    for key in _SIZES:
        value = source.arguments.get(key)
        if type(value) is not int:
            continue
        arguments = {**source.arguments, key: 2 * value}
        try:
            doubled = _shapes(ModelSource(source.kind, source.name, arguments))
        except ModelError:
            continue  # for one, a width need not be a multiple of twice the heads
        wanted = _wanted(value, dense, doubled, smaller)
        if wanted is not None:
            settings[key] = wanted
    return ModelSource(source.kind, source.name, settings)


def _wanted(
    value: int,
    dense: Mapping[str, torch.Size],
    doubled: Mapping[str, torch.Size],
    smaller: Mapping[str, Tensor],
) -> int | None:
    """Return the one value that gives every size that follows it; None if there is none."""
    values = set()
    for name, shape in dense.items():
        for old, grown, new in zip(
            shape, doubled.get(name, shape), smaller[name].shape, strict=False
        ):
            if grown != old:
                # A size is linear in the setting: per unit it is (grown - old) / value.
                change, rest = divmod((old - new) * value, grown - old)
                values.add(value - change if rest == 0 else None)
    return values.pop() if len(values) == 1 else None


def _shapes(source: ModelSource) -> dict[str, torch.Size]:
    try:
        with torch.device("meta"):
            state = build_module(source).state_dict()
    except (ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{source.name} cannot be built with smaller widths: {first_line(error)}",
            hint="--layout dense keeps the dense shapes, with zeros, and loads everywhere",
        ) from error
    return {name: tensor.shape for name, tensor in state.items()}


def _only_dense(why: str) -> ModelError:
    return ModelError(
        f"{why}: only ramda_cli.load loads the smaller tensors",
        hint="--layout dense keeps the dense shapes, with zeros, and loads everywhere",
    )


def _does_not_fit(name: str) -> FileFormatError:
    return FileFormatError(
        f"the file is damaged: its plan does not fit {name}",
        hint="copy it again, or write it again with `ramda prune`",
    )
