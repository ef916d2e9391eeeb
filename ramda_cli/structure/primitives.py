"""The few ways in which an operation treats channels; every operator rule is made of these.

mix          values along some dimensions depend on each other: the channels along them become one
join         operands meet element by element: their channels become the same
contract     operands meet and some dimensions are summed over: join, then consume or mix
reshape      only the dimensions that a reshape splits or merges are touched
take         index the labels as the operation indexes the elements
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from ramda_cli.structure.labels import (
    Array,
    Couplings,
    Layer,
    Shape,
    Slot,
    Value,
    trim,
)

ZeroRule = Literal["product", "sum", "keep", "drop"]
"""When an operation's result is zero: one operand is, all are, as before, or never for sure."""


def mix(couplings: Couplings, layer: Layer, dims: Iterable[int], why: str) -> Layer | None:
    """Make the channels along `dims` one; the remaining dimensions of the layer are the unit.

    Returns:
        The layer reduced to its other dimensions, or None when nothing remains: then all is fixed.
    """
    support = layer.support
    mixed = support & frozenset(dims)
    if not mixed:
        return layer
    if mixed == support:
        couplings.fix(layer.labels, why)
        return None
    first = layer.labels[
        tuple(slice(0, 1) if d in mixed else slice(None) for d in range(layer.labels.ndim))
    ]
    couplings.couple(layer.labels, first)
    return layer.relabelled(first)


def mix_value(couplings: Couplings, value: Value, dims: Iterable[int], why: str) -> Value:
    """Mix every layer of a value along `dims` (negative ones count from the end)."""
    chosen = {d % value.ndim for d in dims} if value.ndim else set()
    layers = [mix(couplings, layer, chosen, why) for layer in value.layers]
    pairs = zip(value.layers, layers, strict=True)
    fixed = (layer.without_origin() for layer, mixed in pairs if mixed is None)
    return couplings.value(
        value.shape, layers, from_parameters=value.from_parameters, held=(*value.held, *fixed)
    )


def yield_to(
    couplings: Couplings, layer: Layer, others: Sequence[Value], free: Iterable[int] = ()
) -> Layer | None:
    """Mix a layer over the dimensions that other operands have and do not label.

    Where all of the layer must stay, it takes the reason that one of the others remembers.

    Args:
        couplings: what is found so far.
        layer: of an operand with as many dimensions as the others.
        others: the operands it meets.
        free: dimensions along which the operands do not meet.
    """
    rigid = frozenset().union(*(other.unlabelled_dims for other in others)) - frozenset(free)
    held = (h for other in others for h in other.held if h.labels.shape == layer.labels.shape)
    why = next(held, None) if layer.support <= rigid else None
    if why is None:
        return mix(couplings, layer, rigid, "meets a dimension that cannot shrink")
    couplings.couple(layer.labels, why.labels)
    return None


def join(couplings: Couplings, values: Sequence[Value], zero: ZeroRule) -> Value:
    """Combine broadcastable values element by element.

    A dimension that one operand has and does not label cannot shrink, so the other operands are
    mixed over it. Layers of equal support are coupled element by element. Where supports overlap
    without being equal, the leading dimension of the largest is the unit.
    """
    shape = np.broadcast_shapes(*(value.shape for value in values))
    operands = [_pad_left(value, len(shape)) for value in values]
    items: list[tuple[int, Layer]] = []
    for number, operand in enumerate(operands):
        others = [other for i, other in enumerate(operands) if i != number]
        for layer in operand.layers:
            kept = yield_to(couplings, layer, others)
            if kept is not None and kept.labels.size > 1:
                items.append((number, kept))
            elif kept is not None:
                couplings.fix(kept.labels, "a single channel is selected")
    layers = [
        _join_overlapping(couplings, overlapping, operands, zero)
        for overlapping in _overlapping(items)
    ]
    from_parameters = all(value.from_parameters for value in values)
    held = _disjoint(layer for operand in operands for layer in operand.held)
    return couplings.value(shape, layers, from_parameters=from_parameters, held=held)


def contract(
    couplings: Couplings, terms: Sequence[tuple[Value, str]], output: str, why: str
) -> Value:
    """Multiply values whose dimensions are named by letters, and sum over those not in `output`.

    A channel that lies wholly along summed letters is consumed by the weights it meets; one that
    lies partly along them is mixed over them (this is how a head becomes the unit of q·k).
    """
    letters = list(output)
    for _, names in terms:
        letters += [name for name in names if name not in letters]
    joined = join(couplings, [_place(value, names, letters) for value, names in terms], "product")
    summed = frozenset(range(len(output), len(letters)))
    layers: list[Layer | None] = []
    for layer in joined.layers:
        if layer.support <= summed:
            couplings.consume(layer)
            continue
        kept = mix(couplings, layer, summed, why)
        if kept is not None:
            # The origin says what makes a weight zero; of the product it is what makes it.
            labels = kept.labels.reshape(kept.labels.shape[: len(output)])
            layers.append(Layer(labels, makers=kept.zeroed_by))
    held = (
        Layer(layer.labels.reshape(layer.labels.shape[: len(output)]))
        for layer in joined.held_outside(summed)
    )
    return couplings.value(
        joined.shape[: len(output)], layers, from_parameters=joined.from_parameters, held=held
    )


def reshape(couplings: Couplings, value: Value, shape: Sequence[int]) -> Value:
    """Follow a reshape: only the dimensions that it splits or merges are relabelled."""
    segments = _segments(value.shape, tuple(shape))

    def relabel(layer: Layer) -> Layer:
        full: list[int] = []
        target: list[int] = []
        for before, after in segments:
            touched = bool(layer.support & set(before))
            full += [value.shape[d] if touched else 1 for d in before]
            target += [shape[d] if touched else 1 for d in after]
        return layer.relabelled(trim(np.broadcast_to(layer.labels, full).reshape(target)))

    relabelled = [relabel(layer) for layer in value.layers]
    layers = _disjoint(relabelled)
    for layer in relabelled:
        if layer not in layers:
            couplings.fix(layer.labels, "merged with another channel dimension")
    held = _disjoint([*layers, *(relabel(layer) for layer in value.held)])[len(layers) :]
    return couplings.value(shape, layers, from_parameters=value.from_parameters, held=held)


def take(
    couplings: Couplings, value: Value, shape: Sequence[int], select: Callable[[Array], Array]
) -> Value:
    """Index the labels as the operation indexes the elements."""
    moved = value.moved(shape, lambda labels: trim(select(labels)))
    return couplings.value(
        shape, moved.layers, from_parameters=value.from_parameters, held=moved.held
    )


def expand(couplings: Couplings, value: Value, shape: Shape) -> Value:
    """Broadcast to `shape`; the new extents get virtual labels, since they can follow a channel."""
    padded = _pad_left(value, len(shape))
    new = [d for d, size in enumerate(shape) if size > 1 and padded.shape[d] == 1]
    virtual = couplings.fresh_value(shape, dims=new)
    return replace(padded, shape=shape, layers=padded.layers + virtual.layers)


def _pad_left(value: Value, ndim: int) -> Value:
    lead = (1,) * (ndim - value.ndim)
    return value.moved(lead + value.shape, lambda labels: labels.reshape(lead + labels.shape))


def _place(value: Value, names: str, letters: Sequence[str]) -> Value:
    """Bring a value's named dimensions to their places among all letters."""
    order = sorted(range(len(names)), key=lambda i: letters.index(names[i]))

    def arrange(sizes: Sequence[int]) -> list[int]:
        shape = [1] * len(letters)
        for i in order:
            shape[letters.index(names[i])] = sizes[i]
        return shape

    return value.moved(
        arrange(value.shape),
        lambda labels: labels.transpose(order).reshape(arrange(labels.shape)),
    )


def _disjoint(layers: Iterable[Layer]) -> list[Layer]:
    """Return the layers that share no dimension with an earlier one."""
    kept: list[Layer] = []
    for layer in layers:
        if all(layer.support.isdisjoint(other.support) for other in kept):
            kept.append(layer)
    return kept


def _overlapping(items: list[tuple[int, Layer]]) -> list[list[tuple[int, Layer]]]:
    """Split layers into sets whose supports are connected, in order of first appearance."""
    rest = list(items)
    sets: list[list[tuple[int, Layer]]] = []
    while rest:
        found = [rest.pop(0)]
        support = found[0][1].support
        grew = True
        while grew:
            touching = [item for item in rest if item[1].support & support]
            rest = [item for item in rest if not item[1].support & support]
            found += touching
            support = support.union(*(layer.support for _, layer in touching))
            grew = bool(touching)
        sets.append(found)
    return sets


def _join_overlapping(
    couplings: Couplings,
    items: list[tuple[int, Layer]],
    operands: Sequence[Value],
    zero: ZeroRule,
) -> Layer | None:
    items = _agree_on_support(couplings, items)
    if not items:
        return None
    labels = items[0][1].labels
    for _, layer in items[1:]:
        couplings.couple(labels, layer.labels)
    origin = _joined_origin(items, operands, zero)
    return Layer(labels, origin, _joined_makers(items, operands, zero))


def _agree_on_support(
    couplings: Couplings, items: list[tuple[int, Layer]]
) -> list[tuple[int, Layer]]:
    if len({layer.support for _, layer in items}) == 1:
        return items
    largest = max((layer for _, layer in items), key=lambda layer: len(layer.support))
    unit = min(largest.support)
    for _, layer in items:
        if unit not in layer.support:
            couplings.fix(layer.labels, "indexes the inside of a larger unit")
    items = [(number, layer) for number, layer in items if unit in layer.support]
    common = frozenset.intersection(*(layer.support for _, layer in items))
    mixed = (
        (number, mix(couplings, layer, layer.support - common, "joined with a larger unit"))
        for number, layer in items
    )
    return [(number, layer) for number, layer in mixed if layer is not None]


def _joined_origin(
    items: list[tuple[int, Layer]], operands: Sequence[Value], zero: ZeroRule
) -> tuple[Slot, ...]:
    origins = [layer.origin for _, layer in items]
    if zero == "product":
        weights = (i for i, (number, _) in enumerate(items) if operands[number].from_parameters)
        return next((origins[i] for i in weights if origins[i]), ())
    if zero == "sum":
        everywhere = len({number for number, _ in items}) == len(operands)
        return all_zero(origins) if everywhere else ()
    return origins[0] if zero == "keep" else ()


def _joined_makers(
    items: list[tuple[int, Layer]], operands: Sequence[Value], zero: ZeroRule
) -> tuple[Slot, ...]:
    makers = [layer.zeroed_by for _, layer in items]
    if zero == "product":
        # What is computed from the input comes before a weight that scales it.
        order = sorted(range(len(items)), key=lambda i: operands[items[i][0]].from_parameters)
        return next((makers[i] for i in order if makers[i]), ())
    if zero == "sum":
        everywhere = len({number for number, _ in items}) == len(operands)
        return all_zero(makers) if everywhere else ()
    return makers[0] if zero == "keep" else ()


def all_zero(origins: Sequence[tuple[Slot, ...]]) -> tuple[Slot, ...]:
    """Return the slots that make all operands zero, or none when one operand has no such slot."""
    if not all(origins):
        return ()
    return tuple(dict.fromkeys(slot for origin in origins for slot in origin))


def _segments(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
    """Match runs of dimensions of equal product; dimensions of size 1 stand alone."""
    segments: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        if i < len(before) and before[i] == 1:
            segments.append(([i], []))
            i += 1
            continue
        if j < len(after) and after[j] == 1:
            segments.append(([], [j]))
            j += 1
            continue
        left, right = [i], [j]
        p, q = before[i], after[j]
        i, j = i + 1, j + 1
        while p != q:
            if p < q:
                p *= before[i]
                left.append(i)
                i += 1
            else:
                q *= after[j]
                right.append(j)
                j += 1
        segments.append((left, right))
    return segments
