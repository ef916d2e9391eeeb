"""What a model is called with: a tensor, positional tensors, or tensors by keyword."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

ExampleInputs = Tensor | tuple[Any, ...] | Mapping[str, Any]
"""Dimension 0 of every tensor is the batch; what is no tensor is a setting of the call."""


def split_inputs(example_inputs: ExampleInputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and keyword inputs, whichever way they were given."""
    if isinstance(example_inputs, Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    return tuple(example_inputs), {}


def tensors_of(tree: object) -> list[Tensor]:
    """Return the tensors in inputs, outputs or any other tree, in order."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def moved(inputs: ExampleInputs, device: torch.device) -> ExampleInputs:
    """Return the inputs on a device."""
    return pytree.tree_map(lambda t: t.to(device) if isinstance(t, Tensor) else t, inputs)


def batch_size(inputs: ExampleInputs) -> int:
    """Return how many examples these inputs are, by the first tensor."""
    first = next(iter(tensors_of(inputs)), None)
    return int(first.shape[0]) if first is not None and first.ndim else 1


def in_parts(inputs: ExampleInputs, size: int) -> list[ExampleInputs]:
    """Return the inputs as batches of at most `size` examples."""
    starts = range(0, batch_size(inputs), size)
    return [rows_of(inputs, slice(start, start + size)) for start in starts]


def rows_of(inputs: ExampleInputs, rows: slice) -> ExampleInputs:
    """Return some examples of a batch."""
    return pytree.tree_map(lambda t: t[rows] if isinstance(t, Tensor) and t.ndim else t, inputs)
