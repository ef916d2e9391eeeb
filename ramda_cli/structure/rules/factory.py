"""Tensors made from sizes: their dimensions can follow any channel, so they get virtual labels."""

from typing import Any

from ramda_cli.structure.labels import Couplings, Value
from ramda_cli.structure.rules.registry import Output, rule, unlabelled


@rule("full", "zeros", "ones", "empty", "full_like", "zeros_like", "ones_like", "empty_like",
      "new_zeros", "new_ones", "new_full", "new_empty", "scalar_tensor")  # fmt: skip
def constant(couplings: Couplings, output: Output, *_: Any, **__: Any) -> Value:
    """Fill with one number; integer tensors carry no labels."""
    if not output.is_float[0]:
        return Value(output.shape)
    return couplings.fresh_value(output.shape)


@rule("arange", "linspace", "one_hot", "eye")
def positions(couplings: Couplings, output: Output, *_: Any, **__: Any) -> Value:
    """Count positions: the values depend on the size, which therefore cannot change."""
    return Value(output.shape)


@rule("meshgrid", "histc", "bincount", "diff", "searchsorted", "bucketize", "nonzero",
      "index_put", "scatter", "scatter_add", "select_scatter", "slice_scatter",
      "unique_dim")  # fmt: skip
def opaque(couplings: Couplings, output: Output, *operands: Any, **_: Any) -> list[Value]:
    """Combine elements in ways that no channel survives."""
    return unlabelled(couplings, output, *operands, why="moved by position or counted")
