"""Embedding, indexing and gathering: known integer indices move labels, others mix them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ramda_cli.structure.labels import Couplings, Layer, Value, trim
from ramda_cli.structure.primitives import join, mix, mix_value, reshape
from ramda_cli.structure.rules.registry import Output, rule, unlabelled


@rule("embedding")
def embedding(
    couplings: Couplings, output: Output, weight: Value, indices: Value, *_: Any
) -> Value:
    """Look up rows: the rows are fixed, the width is a channel dimension."""
    rows = mix_value(couplings, weight, [0], "rows of an embedding")
    couplings.fix_value(indices, "used as an index")
    lead = (1,) * (len(output.shape) - 1)
    layers = (
        Layer(layer.labels.reshape(*lead, -1), makers=layer.zeroed_by)
        for layer in rows.layers
        if 0 not in layer.support
    )
    return couplings.value(output.shape, layers)


@rule("index")
def index(couplings: Couplings, output: Output, x: Value, indices: Sequence[Value | None]) -> Value:
    """Index dimensions by integer tensors; one known tensor moves labels, anything else mixes."""
    dims = [d for d, index in enumerate(indices) if index is not None]
    tensors = [index for index in indices if index is not None]
    for tensor in tensors:
        couplings.fix_value(tensor, "used as an index")
    known = tensors[0].data if len(dims) == 1 and tensors[0].ndim == 1 else None
    if dims != list(range(dims[0], dims[-1] + 1)):
        return unlabelled(couplings, output, x, why="indexed along separate dimensions")[0]
    new_dims = len(np.broadcast_shapes(*(tensor.shape for tensor in tensors)))
    layers = []
    for layer in x.layers:
        kept: Layer | None = layer
        if layer.support & set(dims) and known is None:
            kept = mix(couplings, layer, dims, "picked out by an index tensor")
        if kept is None:
            continue
        labels = kept.labels
        if kept.support & set(dims) and known is not None:
            labels = np.take(labels, known.cpu().numpy(), axis=dims[0])
        else:
            lead, tail = labels.shape[: dims[0]], labels.shape[dims[-1] + 1 :]
            labels = labels.reshape(*lead, *([1] * new_dims), *tail)
        layers.append(Layer(trim(labels), kept.origin))
    return couplings.value(output.shape, layers, from_parameters=x.from_parameters)


@rule("index_select")
def index_select(couplings: Couplings, output: Output, x: Value, dim: int, indices: Value) -> Value:
    """Index one dimension."""
    axis = dim % x.ndim
    return index(couplings, output, x, [*([None] * axis), indices])


@rule("gather")
def gather(
    couplings: Couplings, output: Output, x: Value, dim: int, indices: Value, *_: Any, **__: Any
) -> Value:
    """Pick along one dimension, at positions of its own for every element of the others.

    Dimensions that both have whole meet element by element; the others are mixed.
    """
    axis = dim % x.ndim
    meet = [d for d in range(x.ndim) if d != axis and x.shape[d] == indices.shape[d]]
    other = [d for d in range(x.ndim) if d not in meet]
    sides = []
    for value in (x, indices):
        mixed = mix_value(couplings, value, other, "gathered")
        shape = [size if d in meet else 1 for d, size in enumerate(value.shape)]
        sides.append(Value(tuple(shape), mixed.layers, held=mixed.held_outside(other)))
    joined = join(couplings, sides, "drop")
    return couplings.value(output.shape, joined.layers, held=joined.held)


@rule("pixel_shuffle")
def pixel_shuffle(couplings: Couplings, output: Output, x: Value, factor: int) -> Value:
    """Move factor² consecutive channels into space: together they are the unit."""
    spatial = mix_value(couplings, x, [-1, -2], "moved by a pixel shuffle")
    batch, channels, height, width = x.shape
    blocks = factor * factor
    split = reshape(couplings, spatial, (batch, channels // blocks, blocks, height, width))
    unit = mix_value(couplings, split, [2], "moved by a pixel shuffle")
    layers = (Layer(layer.labels[:, :, 0]) for layer in unit.layers)
    return couplings.value(output.shape, layers)
