"""Batches of any size from a few example inputs."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ramda_cli.errors import BenchError
from ramda_cli.structure.export import ExampleInputs

_MOST_BYTES = 2**31
"""Inputs are described by an untrusted file."""


def batch_of(example_inputs: ExampleInputs, size: int) -> ExampleInputs:
    """Return `size` inputs: the examples, again and again. Dimension 0 of a tensor is the batch.

    Raises:
        BenchError: they take more than 2 GiB.
    """
    leaves = [leaf for leaf in pytree.tree_leaves(example_inputs) if _is_batched(leaf)]
    needed = sum(size * leaf[0].nbytes for leaf in leaves)
    if needed > _MOST_BYTES:
        raise BenchError(
            f"{size} inputs take {needed / 2**30:.1f} GiB", hint="give a smaller --batch-size"
        )

    def repeated(leaf: Any) -> Any:
        return leaf[torch.arange(size) % len(leaf)] if _is_batched(leaf) else leaf

    plain = dict(example_inputs) if isinstance(example_inputs, Mapping) else example_inputs
    return pytree.tree_map(repeated, plain)


def moved(inputs: ExampleInputs, device: torch.device) -> ExampleInputs:
    """Return the inputs on a device."""
    return pytree.tree_map(lambda t: t.to(device) if isinstance(t, Tensor) else t, inputs)


def _is_batched(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0
