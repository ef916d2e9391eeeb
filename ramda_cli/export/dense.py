"""A pruned model's tensors in a class of its library as it is: dense, or as its sizes allow."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ramda_cli.errors import FileFormatError, ModelError
from ramda_cli.export.config_sizes import fitted_source, shapes_of
from ramda_cli.models.building import build_module
from ramda_cli.models.loaded import ModelSource
from ramda_cli.surgery.low_rank_layers import multiplied


def dense_module(
    source: ModelSource,
    smaller: Mapping[str, Tensor],
    kept: Mapping[str, Any],
    ranks: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Return the dense class, with zeros where channels were removed, and factors multiplied.

    Args:
        source: of the dense class.
        smaller: tensors by name, tied ones under each of their names.
        kept: from the plan, by tensor and dimension, for every name.
        ranks: from the file, by the paths of layers that are products of two.

    Raises:
        FileFormatError: the plan does not fit the tensors.
    """
    module = build_module(source)
    for path in ranks or {}:
        smaller, kept = _multiplied(module, path, smaller, kept)
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
    held = _complete(source, shapes_of(source), smaller)
    fitted = fitted_source(source, held) if source.kind == "huggingface" else source
    try:
        shapes = shapes_of(fitted)
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


def _multiplied(
    module: nn.Module, path: str, smaller: Mapping[str, Tensor], kept: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Put the product of a layer's factors, and its bias, in the place of both."""
    names = [f"{path}.{factor}.weight" for factor in ("down", "up")]
    try:
        layer = module.get_submodule(path)
        down, up = (smaller[name] for name in names)
        embedding = isinstance(layer, nn.Embedding)
        weight = multiplied(down, up, embedding=embedding)
    except (AttributeError, KeyError, RuntimeError, IndexError) as error:
        raise _does_not_fit(path) from error
    made, read = _along(kept, names[1], "0"), _along(kept, names[0], "0" if embedding else "1")
    both = {"0": read, "1": made} if embedding else {"0": made, "1": read}
    held = {**smaller, f"{path}.weight": weight.to(down.dtype)}
    ranges = {**kept, f"{path}.weight": {dim: r for dim, r in both.items() if r is not None}}
    if f"{path}.up.bias" in smaller:
        held[f"{path}.bias"] = smaller[f"{path}.up.bias"]
        ranges[f"{path}.bias"] = kept.get(f"{path}.up.bias")
    return held, ranges


def _along(kept: Mapping[str, Any], name: str, dim: str) -> Any:
    ranges = kept.get(name)
    return ranges.get(dim) if isinstance(ranges, dict) else None


def _complete(
    source: ModelSource, shapes: Mapping[str, torch.Size], smaller: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the tensors of the class by name."""
    missing = next((name for name in shapes if name not in smaller), None)
    if missing is not None and f"{missing.rpartition('.')[0]}.down.weight" in smaller:
        raise _only_dense(f"{source.name} has no layers of low rank")
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
