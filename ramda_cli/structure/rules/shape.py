"""Operators that move elements without computing: labels move along."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ramda_cli.structure.concatenation import concatenate
from ramda_cli.structure.labels import Array, Couplings, Layer, Shape, Value, trim
from ramda_cli.structure.primitives import expand, mix_value, reshape, take
from ramda_cli.structure.rules.registry import Output, rule


@rule(
    "view",
    "_unsafe_view",
    "reshape",
    "_reshape_copy",
    "unsqueeze",
    "squeeze",
    "flatten",
    "unflatten",
)
def view(couplings: Couplings, output: Output, x: Value, *_: Any) -> Value:
    """Split and merge dimensions."""
    return reshape(couplings, x, output.shape)


@rule("permute")
def permute(couplings: Couplings, output: Output, x: Value, dims: Sequence[int]) -> Value:
    """Reorder dimensions."""
    order = [d % x.ndim for d in dims]
    return take(couplings, x, output.shape, lambda labels: labels.transpose(order))


@rule("transpose")
def transpose(couplings: Couplings, output: Output, x: Value, dim0: int, dim1: int) -> Value:
    """Swap two dimensions."""
    return take(couplings, x, output.shape, lambda labels: labels.swapaxes(dim0, dim1))


@rule("t", "numpy_T")
def reverse_dims(couplings: Couplings, output: Output, x: Value) -> Value:
    """Reverse the order of dimensions."""
    return take(couplings, x, output.shape, lambda labels: labels.transpose())


@rule("expand")
def expand_to(couplings: Couplings, output: Output, x: Value, *_: Any, **__: Any) -> Value:
    """Broadcast."""
    return expand(couplings, x, output.shape)


@rule("copy")
def copy(couplings: Couplings, output: Output, x: Value, source: Value, *_: Any) -> Value:
    """Overwrite: only the source's channels matter."""
    return expand(couplings, source, output.shape)


@rule("repeat", "tile")
def repeat(couplings: Couplings, output: Output, x: Value, repeats: Sequence[int]) -> Value:
    """Tile; the channels come again in the copies."""
    shape = output.shape
    counts = [1] * (len(shape) - len(repeats)) + list(repeats)

    def tile(labels: Array) -> Array:
        labels = labels.reshape((1,) * (len(shape) - labels.ndim) + labels.shape)
        return np.tile(labels, [n if labels.shape[d] > 1 else 1 for d, n in enumerate(counts)])

    return take(couplings, x, shape, tile)


@rule("repeat_interleave")
def repeat_interleave(
    couplings: Couplings, output: Output, x: Value, repeats: Any, dim: int | None = None, **_: Any
) -> Value:
    """Repeat each channel in place; only a plain number of repeats is understood."""
    if not isinstance(repeats, int) or dim is None:
        raise NotImplementedError("repeat_interleave by a tensor")
    axis = dim % x.ndim
    return take(
        couplings, x, output.shape,
        lambda labels: np.repeat(labels, repeats, axis) if labels.shape[axis] > 1 else labels,
    )  # fmt: skip


@rule("slice")
def slice_(
    couplings: Couplings, output: Output, x: Value, dim: int = 0, start: int | None = None,
    end: int | None = None, step: int = 1,
) -> Value:  # fmt: skip
    """Take a range of one dimension."""
    return take_along(couplings, x, output.shape, dim, slice(start, end, step))


def take_along(couplings: Couplings, x: Value, shape: Shape, dim: int, part: slice) -> Value:
    """Take a range of labels along `dim`."""
    index = (slice(None),) * (dim % x.ndim) + (part,)
    return take(
        couplings, x, shape,
        lambda labels: labels[index] if labels.shape[dim % x.ndim] > 1 else labels,
    )  # fmt: skip


def take_one(couplings: Couplings, x: Value, shape: Shape, dim: int, position: int) -> Value:
    """Take one position along `dim` and drop the dimension."""
    axis = dim % x.ndim
    return take(
        couplings, x, shape,
        lambda labels: labels.take([position if labels.shape[axis] > 1 else 0], axis).squeeze(axis),
    )  # fmt: skip


@rule("select")
def select(couplings: Couplings, output: Output, x: Value, dim: int, index: int) -> Value:
    """Take one position of one dimension."""
    return take_one(couplings, x, output.shape, dim, index)


@rule("unbind")
def unbind(couplings: Couplings, output: Output, x: Value, dim: int = 0) -> list[Value]:
    """Take every position of one dimension."""
    return [take_one(couplings, x, shape, dim, i) for i, shape in enumerate(output.shapes)]


@rule("split", "split_with_sizes", "chunk", "tensor_split")
def split(couplings: Couplings, output: Output, x: Value, _: Any, dim: int = 0) -> list[Value]:
    """Take consecutive ranges of one dimension."""
    values = []
    start = 0
    for shape in output.shapes:
        end = start + shape[dim % x.ndim]
        values.append(take_along(couplings, x, shape, dim, slice(start, end)))
        start = end
    return values


@rule("flip")
def flip(couplings: Couplings, output: Output, x: Value, dims: Sequence[int]) -> Value:
    """Reverse dimensions."""
    return take(couplings, x, output.shape, lambda labels: np.flip(labels, tuple(dims)))


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(couplings: Couplings, output: Output, x: Value, groups: int) -> Value:
    """Interleave `groups` runs of channels; removal replaces it by a constant permutation."""
    order = shuffled(x.shape[1], groups)
    return take(
        couplings, x, output.shape,
        lambda labels: labels[:, order] if labels.shape[1] > 1 else labels,
    )  # fmt: skip


def shuffled(channels: int, groups: int) -> Array:
    """Return, for every channel after a channel shuffle, where it was before."""
    return np.arange(channels).reshape(groups, -1).T.ravel()


@rule("roll")
def roll(
    couplings: Couplings, output: Output, x: Value, shifts: Any, dims: Sequence[int] = ()
) -> Value:
    """Shift cyclically; channels that would wrap around are mixed."""
    return mix_value(couplings, x, dims or range(x.ndim), "rolled")


@rule("cat")
def cat(couplings: Couplings, output: Output, tensors: Sequence[Value], dim: int = 0) -> Value:
    """Concatenate; empty tensors, which torch lets through, do not count."""
    values = [value for value in tensors if 0 not in value.shape]
    return concatenate(couplings, values, dim % len(output.shape))


@rule("stack")
def stack(couplings: Couplings, output: Output, tensors: Sequence[Value], dim: int = 0) -> Value:
    """Concatenate along a new dimension."""
    axis = dim % len(output.shape)
    values = [
        reshape(couplings, value, (*value.shape[:axis], 1, *value.shape[axis:]))
        for value in tensors
    ]
    return _stack_same(couplings, values, axis) or concatenate(couplings, values, axis)


def _stack_same(couplings: Couplings, values: Sequence[Value], axis: int) -> Value | None:
    """Stack values whose layers correspond, label by label, without coupling them."""
    supports = [sorted(sorted(layer.support) for layer in value.layers) for value in values]
    if any(other != supports[0] for other in supports):
        return None
    shape = list(values[0].shape)
    shape[axis] = len(values)
    layers = []
    for support in supports[0]:
        same = [
            next(layer for layer in value.layers if sorted(layer.support) == support)
            for value in values
        ]
        labels = trim(np.concatenate([layer.labels for layer in same], axis))
        origins = [layer.origin for layer in same]
        merged = tuple(dict.fromkeys(s for o in origins for s in o)) if all(origins) else ()
        layers.append(Layer(labels, merged))
    return couplings.value(
        shape, layers, from_parameters=all(value.from_parameters for value in values)
    )
