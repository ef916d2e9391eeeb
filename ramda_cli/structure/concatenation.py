"""Concatenation: labels follow their operand, and the other dimensions are joined."""

from collections.abc import Sequence

import numpy as np

from ramda_cli.structure.labels import NO_CHANNEL, Couplings, Layer, Value
from ramda_cli.structure.primitives import all_zero, mix, yield_to


def concatenate(couplings: Couplings, values: Sequence[Value], dim: int) -> Value:
    """Concatenate along `dim`."""
    shape = list(values[0].shape)
    shape[dim] = sum(value.shape[dim] for value in values)
    pieces: list[Layer | None] = []
    crossing: list[Layer] = []
    for number, value in enumerate(values):
        others = [other for i, other in enumerate(values) if i != number]
        mixed = [yield_to(couplings, layer, others, free=[dim]) for layer in value.layers]
        kept = [layer for layer in mixed if layer is not None and layer.labels.size > 1]
        pieces.append(next((layer for layer in kept if dim in layer.support), None))
        crossing += [layer for layer in kept if dim not in layer.support]
    piece = _concatenate_pieces(couplings, values, dim, pieces, crossing)
    layers = ([] if piece is None else [piece]) + _merge_crossing(couplings, crossing)
    from_parameters = all(value.from_parameters for value in values)
    held = values[0].held_outside([dim])
    return couplings.value(shape, layers, from_parameters=from_parameters, held=held)


def _concatenate_pieces(
    couplings: Couplings,
    values: Sequence[Value],
    dim: int,
    pieces: list[Layer | None],
    crossing: list[Layer],
) -> Layer | None:
    """Concatenate the layers that vary along `dim`; an operand without one is constant there.

    Pieces that also vary along other dimensions must agree on these, and so must layers that
    cross them; where they do not, the pieces collapse to what they have in common. Layers that no
    longer vary along `dim` are moved to `crossing`.
    """
    labelled = [piece for piece in pieces if piece is not None]
    if not labelled:
        return None
    sides = [piece.support - {dim} for piece in labelled]
    side = frozenset.intersection(*sides)
    if any(other != side for other in sides):
        pieces[:] = [
            piece and mix(couplings, piece, piece.support - side - {dim}, "concatenated")
            for piece in pieces
        ]
    meets = [layer.support & side for layer in crossing if layer.support & side]
    if meets:
        unit = frozenset.intersection(side, *meets)
        reduced = [
            mix(couplings, layer, layer.support - unit, "concatenated")
            if layer.support & side
            else layer
            for layer in [*(piece for piece in pieces if piece is not None), *crossing]
        ]
        crossing[:] = [layer for layer in reduced if layer is not None]
        return None
    parts = []
    for piece, value in zip(pieces, values, strict=True):
        extent = [size if d in side or d == dim else 1 for d, size in enumerate(value.shape)]
        labels = np.full((1,) * value.ndim, NO_CHANNEL) if piece is None else piece.labels
        parts.append(np.broadcast_to(labels, extent))
    origins = [() if piece is None else piece.origin for piece in pieces]
    return Layer(np.concatenate(parts, axis=dim), all_zero(origins))


def _merge_crossing(couplings: Couplings, crossing: Sequence[Layer]) -> list[Layer]:
    """Couple layers of equal support across operands; fix those that overlap without agreeing."""
    by_support: dict[frozenset[int], list[Layer]] = {}
    for layer in crossing:
        by_support.setdefault(layer.support, []).append(layer)
    merged: list[Layer] = []
    for support, layers in by_support.items():
        if any(support & other and support != other for other in by_support):
            for layer in layers:
                couplings.fix(layer.labels, "concatenated along different dimensions")
            continue
        for layer in layers[1:]:
            couplings.couple(layers[0].labels, layer.labels)
        merged.append(Layer(layers[0].labels, all_zero([layer.origin for layer in layers])))
    return merged
