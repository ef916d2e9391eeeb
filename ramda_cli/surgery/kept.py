"""Which positions of every dimension of every value stay."""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from ramda_cli.structure.discover import ChannelGraph
from ramda_cli.structure.labels import Layer, Mask, Value
from ramda_cli.structure.solve import FIXED, Classes, shrinking_dim


class KeptPositions:
    """Answers, for a set of removed channels, what is left of each value of the graph."""

    def __init__(self, classes: Classes, removed: Mask) -> None:
        """Take what is removed by class; the last entry is of FIXED (-1), and is never set."""
        self._classes = classes
        self._removed = removed
        self._cache: dict[int, tuple[Mask | None, ...]] = {}

    @classmethod
    def of_channels(cls, graph: ChannelGraph, removed: Mapping[str, Sequence[int]]) -> Self:
        """Take what is removed by group name."""
        gone = np.zeros(graph.classes.count + 1, dtype=bool)
        for name, channels in removed.items():
            gone[graph.members[name][list(channels)]] = True
        return cls(graph.classes, gone)

    def masks(self, value: Value) -> tuple[Mask | None, ...]:
        """Return for each dimension which positions stay; None where all do."""
        if id(value) not in self._cache:
            self._cache[id(value)] = self._compute(value)
        return self._cache[id(value)]

    def shape(self, value: Value) -> tuple[int, ...]:
        """Return the shape that is left."""
        return tuple(
            size if mask is None else int(mask.sum())
            for size, mask in zip(value.shape, self.masks(value), strict=True)
        )

    def _compute(self, value: Value) -> tuple[Mask | None, ...]:
        masks: list[Mask | None] = [None] * value.ndim
        for layer in value.layers:
            found = self._of_layer(layer)
            if found is not None:
                dim, mask = found
                masks[dim] = mask
        return tuple(masks)

    def _of_layer(self, layer: Layer) -> tuple[int, Mask] | None:
        removed = self._removed[self._classes.of(layer.labels)]
        if not removed.any():
            return None
        dim = shrinking_dim(np.where(removed, 0, FIXED))
        if dim is None:
            raise RuntimeError("channels that do not form a rectangle were chosen for removal")
        other = tuple(d for d in range(removed.ndim) if d != dim)
        gone: Mask = removed.any(axis=other, keepdims=True).reshape(-1)
        return dim, ~gone
