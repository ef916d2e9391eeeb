"""From edges and fixes to classes of channels that live and die together."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ramda_cli.structure.labels import Array, Couplings, Fix, Layer, Value
from ramda_cli.structure.trace import Trace

FIXED = -1

_MAX_ROUNDS = 16


@dataclass(frozen=True, eq=False)
class Classes:
    """Channel classes.

    Attributes:
        of_label: the class of every label.
        count: how many classes there are.
        fix: for every class, the index of the first fix that holds it, or -1 when it is free.
    """

    of_label: Array
    count: int
    fix: Array

    def of(self, labels: Array) -> Array:
        """Return the class of each label, FIXED where it must stay or names no channel."""
        if self.of_label.size == 0:
            return np.full_like(labels, FIXED)
        classes = self.of_label[np.maximum(labels, 0)]
        return np.where((labels >= 0) & (self.fix[classes] < 0), classes, FIXED)


def solve(trace: Trace) -> Classes:
    """Find the classes, and unify where a value could otherwise not shrink as a rectangle."""
    couplings = trace.couplings
    for _ in range(_MAX_ROUNDS):
        classes = _components(couplings)
        if not _make_rectangular(couplings, classes, _layers(trace)):
            return classes
    raise RuntimeError(f"no rectangular channel sets after {_MAX_ROUNDS} rounds")


def shrinking_dim(classes: Array) -> int | None:
    """Return the one dimension along which removal can act: the others are constant for it.

    Args:
        classes: of a layer's elements, FIXED where they stay.
    """
    support = [d for d, size in enumerate(classes.shape) if size > 1]
    for dim in support:
        if (classes == _first_along(classes, dim)).all():
            return dim
    return None


def extents(trace: Trace, classes: Classes) -> tuple[Array, ...]:
    """Return the sets of classes that make up a whole dimension: one of each set must stay.

    Sets with a class that must stay anyway are left out.
    """
    distinct: dict[bytes, Array] = {}
    seen: set[int] = set()
    for layer in _layers(trace):
        if id(layer.labels) in seen:
            continue
        seen.add(id(layer.labels))
        whole = np.unique(classes.of(layer.labels))
        if whole[0] != FIXED:
            distinct[whole.tobytes()] = whole
    return tuple(sorted(distinct.values(), key=lambda whole: whole.size))


def first_fix(classes: Classes, couplings: Couplings, channel_class: int) -> Fix:
    """Return the reason that holds a class."""
    return couplings.fixes[classes.fix[channel_class]]


def _components(couplings: Couplings) -> Classes:
    size = couplings.size
    if size == 0:
        empty = np.empty(0, dtype=np.int64)
        return Classes(empty, 0, empty)
    if couplings.edges:
        one = np.concatenate([edge[0] for edge in couplings.edges])
        other = np.concatenate([edge[1] for edge in couplings.edges])
    else:
        one = other = np.empty(0, dtype=np.int64)
    graph = coo_matrix((np.ones(one.size, dtype=np.int8), (one, other)), shape=(size, size))
    count, of_label = connected_components(graph, directed=False)
    fix = np.full(count, -1, dtype=np.int64)
    for number in reversed(range(len(couplings.fixes))):
        fix[of_label[couplings.fixes[number].labels]] = number
    return Classes(of_label.astype(np.int64), int(count), fix)


def _layers(trace: Trace) -> Iterable[Layer]:
    for value in trace.values.values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Value):
                yield from one.layers


def _make_rectangular(couplings: Couplings, classes: Classes, layers: Iterable[Layer]) -> bool:
    """Unify the channels of every layer that depends on more than one dimension."""
    changed = False
    couplings.at("", "")
    for layer in layers:
        if len(layer.support) < 2:
            continue
        of_element = classes.of(layer.labels)
        if shrinking_dim(of_element) is not None:
            continue
        kept = {dim: _free_rows(of_element, dim) for dim in sorted(layer.support)}
        dim = max(kept, key=lambda d: kept[d])
        couplings.couple(layer.labels, _first_along(layer.labels, dim))
        changed = True
    return changed


def _first_along(array: Array, dim: int) -> Array:
    """Return the elements at position 0 of every dimension but `dim`."""
    return array[tuple(slice(None) if d == dim else slice(0, 1) for d in range(array.ndim))]


def _free_rows(classes: Array, dim: int) -> int:
    """Count the positions along `dim` that hold no fixed element."""
    rows = np.moveaxis(classes, dim, 0).reshape(classes.shape[dim], -1)
    return int((rows != FIXED).all(axis=1).sum())
