"""Reductions: the channels along the reduced dimensions become one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from ramda_cli.structure.labels import Array, Couplings, Layer, Value
from ramda_cli.structure.primitives import mix_value
from ramda_cli.structure.rules.pointwise import pointwise
from ramda_cli.structure.rules.registry import Output, rule


def reduce(
    couplings: Couplings, output: Output, x: Value, dims: int | Sequence[int] | None, name: str
) -> list[Value]:
    """Mix over `dims` (all when None or empty) and drop them, unless the output keeps them."""
    listed = [dims] if isinstance(dims, int) else list(dims or range(x.ndim))
    reduced = {d % x.ndim for d in listed}
    mixed = mix_value(couplings, x, reduced, f"{name} over channels")
    values = []
    for shape in output.shapes:
        keeps_dims = len(shape) == x.ndim

        def squeeze(labels: Array, keeps_dims: bool = keeps_dims) -> Array:
            if keeps_dims:
                return labels
            return labels.reshape([s for d, s in enumerate(labels.shape) if d not in reduced])

        layers, held = (
            [Layer(squeeze(layer.labels)) for layer in some]
            for some in (mixed.layers, mixed.held_outside(reduced))
        )
        values.append(couplings.value(shape, layers, from_parameters=x.from_parameters, held=held))
    return values


def reduction(couplings: Couplings, output: Output, x: Value, *rest: Any, **_: Any) -> list[Value]:
    """Reduce over the dimensions in the first further argument, as most reductions name them."""
    dims = rest[0] if rest else None
    if isinstance(dims, (bool, float, torch.dtype)):
        dims = None
    return reduce(couplings, output, x, dims, "a reduction")


@rule("mean")
def mean(couplings: Couplings, output: Output, x: Value, *rest: Any, **more: Any) -> list[Value]:
    """Reduce; the mean square over a width is what an RMSNorm divides by."""
    dims = {d % x.ndim for d in rest[0]} if rest and isinstance(rest[0], (list, tuple)) else set()
    free = tuple(
        layer
        for layer in x.layers
        if x.is_square and layer.support == dims and couplings.normalise(layer)
    )
    others = replace(x, layers=tuple(layer for layer in x.layers if layer not in free))
    return reduction(couplings, output, others, *rest, **more)


for _name in (
    "sum", "amax", "amin", "var", "var_mean", "std", "prod", "any", "all", "argmax",
    "argmin", "logsumexp",
):  # fmt: skip
    rule(_name)(reduction)


@rule("max", "min")
def extremum(couplings: Couplings, output: Output, x: Value, *rest: Any) -> Value | list[Value]:
    """Reduce, or compare two tensors element by element."""
    if rest and isinstance(rest[0], Value):
        return pointwise(couplings, output, x, rest[0])
    return reduction(couplings, output, x, *rest)


@rule("linalg_vector_norm")
def vector_norm(
    couplings: Couplings, output: Output, x: Value, order: float = 2, dim: Any = None, *_: Any,
    **__: Any,
) -> list[Value]:  # fmt: skip
    """Reduce over the dimensions named after the order of the norm."""
    return reduce(couplings, output, x, dim, "a norm")


@rule(
    "softmax",
    "_softmax",
    "log_softmax",
    "_log_softmax",
    "_safe_softmax",
    "cumsum",
    "logcumsumexp",
    "sort",
    "argsort",
)
def along_dim(
    couplings: Couplings, output: Output, x: Value, dim: int = -1, *_: Any, **__: Any
) -> list[Value]:
    """Mix over one dimension and keep it."""
    value = mix_value(couplings, x, [dim], "a softmax, sort or cumulative sum over channels")
    layers = [layer.without_origin() for layer in value.layers]
    return [couplings.value(shape, layers, held=value.held) for shape in output.shapes]


@rule("topk")
def topk(
    couplings: Couplings, output: Output, x: Value, k: int, dim: int = -1, *_: Any, **__: Any
) -> list[Value]:
    """Mix over the dimension that is ranked."""
    return along_dim(couplings, output, x, dim)
