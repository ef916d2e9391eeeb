"""How each operator's arguments follow the channels: every size is the count of kept positions."""

import math
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx

from ramda_cli.structure.labels import Array, Mask
from ramda_cli.structure.rules.shape import shuffled
from ramda_cli.structure.trace import arguments, operator_name
from ramda_cli.surgery.context import RewriteContext
from ramda_cli.surgery.program import Operation, operation_of, to_references

Rewriting = Callable[[RewriteContext, fx.Node], Operation]

CONV_GROUPS = 6
"""Where a convolution, transposed or not, has its number of groups."""

_aten = torch.ops.aten


def _sized(position: int) -> Rewriting:
    """Rewrite an operator whose argument at `position` lists the result's sizes."""

    def rewriting(context: RewriteContext, node: fx.Node) -> Operation:
        value = context.value(node)
        args = list(arguments(node))
        sizes = zip(args[position], value.shape, context.kept.shape(value), strict=True)
        args[position] = [
            context.size(node, requested, dim, old, new)
            for dim, (requested, old, new) in enumerate(sizes)
        ]
        return _with_arguments(node, *args)

    return rewriting


def _view(context: RewriteContext, node: fx.Node) -> Operation:
    """Reshape: a view that suits the example's strides does not suit those of every input."""
    return replace(_sized(1)(context, node), target=_aten.reshape.default)


def _with_arguments(node: fx.Node, *args: Any) -> Operation:
    return Operation(node.name, node.target, to_references(args), to_references(node.kwargs))


def _slice(context: RewriteContext, node: fx.Node) -> Operation:
    given = arguments(node)
    args: tuple[Any, ...] = given + (0, None, None, 1)[len(given) - 1 :]
    x, dim, start, end, step = args
    axis = dim % context.value(x).ndim
    mask = context.mask(x, axis)
    if mask is None:
        return operation_of(node)
    chosen = np.arange(mask.size)[start:end:step]
    return _select_positions(context, node, x, axis, mask, chosen)


def _select_positions(
    context: RewriteContext, node: fx.Node, x: fx.Node, axis: int, mask: Mask, chosen: Array
) -> Operation:
    """Take the kept ones of the chosen positions: a slice where they follow each other."""
    new_position = np.cumsum(mask) - 1
    positions = new_position[chosen[mask[chosen]]]
    first = int(positions[0]) if positions.size else 0
    if (np.diff(positions) == 1).all():
        args = (x, axis, first, first + int(positions.size))
        return Operation(node.name, _aten.slice.Tensor, to_references(args))
    index = context.constant(f"{node.name}_positions", positions)
    return Operation(node.name, _aten.index_select.default, (to_references(x), axis, index))


def _select(context: RewriteContext, node: fx.Node) -> Operation:
    x, dim, position = arguments(node)
    axis = dim % context.value(x).ndim
    mask = context.mask(x, axis)
    if mask is None:
        return operation_of(node)
    return _with_arguments(node, x, axis, int(mask[: position % mask.size].sum()))


def _split(context: RewriteContext, node: fx.Node) -> Operation:
    x, _, dim = (*arguments(node), 0)[:3]
    axis = dim % context.value(x).ndim
    if context.mask(x, axis) is None:
        return operation_of(node)
    sizes = [context.kept.shape(piece)[axis] for piece in context.pieces(node)]
    return Operation(node.name, _aten.split_with_sizes.default, to_references((x, sizes, axis)))


def _pad(context: RewriteContext, node: fx.Node) -> Operation:
    x, widths, *rest = arguments(node)
    padding = list(widths)
    value, source = context.value(node), context.value(x)
    for dim, mask in enumerate(context.kept.masks(value)):
        pair = 2 * (value.ndim - 1 - dim)
        if mask is not None and pair < len(padding):
            before = padding[pair]
            padding[pair] = int(mask[:before].sum())
            padding[pair + 1] = int(mask[before + source.shape[dim] :].sum())
    return _with_arguments(node, x, padding, *rest)


def _conv(context: RewriteContext, node: fx.Node) -> Operation:
    args = list(arguments(node))
    if len(args) <= CONV_GROUPS:
        return operation_of(node)
    x, weight = args[:2]
    whole = context.value(node if "transpose" in operator_name(node.target) else x)
    per_group = context.kept.shape(context.value(weight))[1]
    args[CONV_GROUPS] = context.kept.shape(whole)[1] // per_group
    return _with_arguments(node, *args)


def _group_norm(context: RewriteContext, node: fx.Node) -> Operation:
    x, groups, *rest = arguments(node)
    value = context.value(x)
    per_group = value.shape[1] // groups
    return _with_arguments(node, x, context.kept.shape(value)[1] // per_group, *rest)


def _mean(context: RewriteContext, node: fx.Node) -> Operation:
    """Scale a mean square by what is left of the width, whose other entries were zero."""
    x, dims, *_ = (*arguments(node), None)
    value = context.value(x)
    old = [value.shape[d] for d in dims or ()]
    new = [context.kept.shape(value)[d] for d in dims or ()]
    if old == new:
        return operation_of(node)
    whole = operation_of(node)
    mean = context.call(f"{node.name}_kept", whole.target, *whole.args)
    share = math.prod(new) / math.prod(old)
    return Operation(node.name, _aten.mul.Tensor, (mean, share))


def _rms_norm(context: RewriteContext, node: fx.Node) -> Operation:
    """Normalise what is left of a width as if its other entries, which were zero, were there."""
    x, _, weight, eps = (*arguments(node), None, None)[:4]
    value = context.value(x)
    old, new = value.shape[-1], context.kept.shape(value)[-1]
    if old == new:
        return operation_of(node)
    if eps is None:
        eps = torch.finfo(node.meta["val"].dtype).eps
    scaled = context.call(f"{node.name}_kept", node.target, x, [new], weight, eps * old / new)
    return Operation(node.name, _aten.mul.Tensor, (scaled, math.sqrt(old / new)))


def _attention(context: RewriteContext, node: fx.Node) -> Operation:
    """Keep the scale that the dense head size implied."""
    query = arguments(node)[0]
    width = context.value(query).shape[-1]
    unscaled = operation_of(node)
    if context.mask(query, -1) is None or node.kwargs.get("scale") is not None:
        return unscaled
    return replace(unscaled, kwargs={**unscaled.kwargs, "scale": width**-0.5})


def _index(context: RewriteContext, node: fx.Node) -> Operation:
    x, indices, *_ = arguments(node)
    for dim, index in enumerate(indices):
        mask = context.mask(x, dim)
        if index is not None and mask is not None:
            return _renumbered(context, node, x, dim, mask, index)
    return operation_of(node)


def _index_select(context: RewriteContext, node: fx.Node) -> Operation:
    x, dim, index = arguments(node)
    axis = dim % context.value(x).ndim
    mask = context.mask(x, axis)
    if mask is None:
        return operation_of(node)
    return _renumbered(context, node, x, axis, mask, index)


def _renumbered(
    context: RewriteContext, node: fx.Node, x: fx.Node, axis: int, mask: Mask, index: fx.Node
) -> Operation:
    """Renumber a known index into a dimension that shrinks."""
    data = context.value(index).data
    if data is None or data.ndim != 1:
        raise RuntimeError(f"{node.name} indexes channels by an unknown tensor")
    return _select_positions(context, node, x, axis, mask, data.cpu().numpy())


def _channel_shuffle(context: RewriteContext, node: fx.Node) -> Operation:
    x, groups = arguments(node)
    mask = context.mask(x, 1)
    if mask is None:
        return operation_of(node)
    return _select_positions(context, node, x, 1, mask, shuffled(mask.size, groups))


def _grouped_mm(context: RewriteContext, node: fx.Node) -> Operation:
    """Take torch's own operator for the one that transformers defines."""
    x, weight, ends = arguments(node)
    args = (to_references(x), to_references(weight), to_references(ends))
    return Operation(node.name, _aten._grouped_mm.default, args)


def _symbolic_size(context: RewriteContext, node: fx.Node) -> Operation:
    """Give back the dense size: the sizes that depend on it are scaled where they are used."""
    x, dim = arguments(node)
    value = context.value(x)
    old, new = value.shape[dim], context.kept.shape(value)[dim]
    if old == new:
        return operation_of(node)
    now = context.call(f"{node.name}_now", node.target, x, dim)
    scaled = context.call(f"{node.name}_scaled", operator.mul, now, old)
    return Operation(node.name, operator.floordiv, (scaled, new))


REWRITES: dict[str, Rewriting] = {
    **dict.fromkeys(("view", "_unsafe_view"), _view),
    **dict.fromkeys(("reshape", "expand", "new_zeros", "new_ones", "new_full", "new_empty",
                     "_reshape_copy"), _sized(1)),
    **dict.fromkeys(("full", "zeros", "ones", "empty"), _sized(0)),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
                     "conv_transpose3d"), _conv),
    **dict.fromkeys(("split", "split_with_sizes"), _split),
    **dict.fromkeys(("constant_pad_nd", "pad"), _pad),
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), _channel_shuffle),
    "slice": _slice,
    "select": _select,
    "group_norm": _group_norm,
    "mean": _mean,
    "rms_norm": _rms_norm,
    "scaled_dot_product_attention": _attention,
    "index": _index,
    "index_select": _index_select,
    "sym_size": _symbolic_size,
    "transformers::grouped_mm_fallback": _grouped_mm,
}  # fmt: skip
