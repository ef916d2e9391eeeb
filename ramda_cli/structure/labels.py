"""Channel labels: which channel each element of a value belongs to.

Every value in the graph carries *layers*. A layer is an integer array that broadcasts against the
value's shape: its entries name the channel that an element belongs to, -1 an element that belongs
to none. Its *support* is the set of dimensions along which it varies. Layers of one value have
disjoint supports, so a weight of shape (out, in) has one layer along each dimension.

Operations never merge channels at once. They append edges (these two labels are one channel) and
fixes (these labels must stay, for this reason); `ramda_cli.structure.solve` takes the connected
components at the end.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Shape = tuple[int, ...]

NO_CHANNEL = -1


@dataclass(frozen=True, order=True)
class Slot:
    """One dimension of one parameter or buffer."""

    parameter: str
    dim: int


@dataclass(frozen=True, eq=False)
class Layer:
    """Labels along some dimensions of a value.

    Attributes:
        labels: int64, as many dimensions as the value, each of the value's size or 1.
        origin: of a value computed from parameters alone, slots whose zero entries make the
            elements of the same channel zero; empty when zero parameters do not make it zero.
        makers: the same for a value that depends on the input.
    """

    labels: Array
    origin: tuple[Slot, ...] = ()
    makers: tuple[Slot, ...] = ()

    @property
    def support(self) -> frozenset[int]:
        """Dimensions along which the labels may vary."""
        return frozenset(d for d, size in enumerate(self.labels.shape) if size > 1)

    @property
    def zeroed_by(self) -> tuple[Slot, ...]:
        """Slots whose zero entries make the channel zero, however the value is computed."""
        return self.makers or self.origin

    def relabelled(self, labels: Array) -> "Layer":
        """Return other labels on the same value."""
        return replace(self, labels=labels)

    def without_origin(self) -> "Layer":
        """Return the same labels on a value that zero parameters do not make zero."""
        return Layer(self.labels)


@dataclass(frozen=True, eq=False)
class Value:
    """What discovery knows of one tensor in the graph.

    Attributes:
        shape: its sizes, the batch's included.
        layers: with pairwise disjoint supports.
        is_square: whether it is the element-wise square of a value with the same layers.
        held: labels, all fixed, of dimensions that no layer covers. They decide nothing: what meets
            such a dimension must stay, and takes the reason from here.
        from_parameters: whether it is computed from parameters alone.
        data: its content, when it is an integer tensor that no input reaches.
    """

    shape: Shape
    layers: tuple[Layer, ...] = ()
    from_parameters: bool = False
    data: Tensor | None = None
    held: tuple[Layer, ...] = ()
    is_square: bool = False

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def unlabelled_dims(self) -> frozenset[int]:
        """Dimensions of more than one element that no layer covers."""
        covered = frozenset().union(*(layer.support for layer in self.layers))
        return frozenset(d for d, size in enumerate(self.shape) if size > 1) - covered

    def held_outside(self, dims: Iterable[int]) -> tuple[Layer, ...]:
        """Return the held layers that do not vary along `dims`."""
        return tuple(layer for layer in self.held if layer.support.isdisjoint(dims))

    def moved(self, shape: Sequence[int], move: Callable[[Array], Array]) -> "Value":
        """Return the value after an operation that only moves elements, its labels with them."""
        layers, held = (
            tuple(layer.relabelled(move(layer.labels)) for layer in some)
            for some in (self.layers, self.held)
        )
        return Value(tuple(shape), layers, self.from_parameters, held=held)


@dataclass(frozen=True, eq=False)
class Fix:
    """Labels that must stay.

    Attributes:
        labels: which.
        reason: why, for the user.
        operator: the operation that decided it.
        node: its name in the graph.
    """

    labels: Array
    reason: str
    operator: str
    node: str


@dataclass(frozen=True, eq=False)
class Consumption:
    """Labels that weights sum over.

    Attributes:
        labels: which.
        readers: slots of the weights whose zero entries make the contribution zero.
        makers: slots whose zero entries make what is read zero; empty when none do for sure.
    """

    labels: Array
    readers: tuple[Slot, ...]
    makers: tuple[Slot, ...]


@dataclass(frozen=True, eq=False)
class Stream:
    """Labels along a width that an RMSNorm normalises.

    Channels that are zero throughout leave every output as it was, once the mean square is scaled
    by what is left of the width.

    Attributes:
        labels: which.
        makers: slots whose zero entries make the channels zero here.
    """

    labels: Array
    makers: tuple[Slot, ...]


class Couplings:
    """Everything the rules have found so far: edges, fixes and consumers.

    Attributes:
        size: labels handed out.
        edges: pairs of label arrays of equal length that name the same channels.
        fixes: labels that must stay, with reasons.
        consumptions: labels that a contraction with weights sums over.
        streams: labels of widths that only an RMSNorm mixes.
        aligned: labels along a dimension whose size must stay a multiple of a number.
    """

    def __init__(self, *, streams: Literal["fix", "known", "all"] = "fix") -> None:
        """Start with nothing found.

        Args:
            streams: what becomes of a width that an RMSNorm normalises: it is fixed; or free where
                it is known what makes its channels zero; or free anyway.
        """
        self.size = 0
        self._streams = streams
        self.edges: list[tuple[Array, Array]] = []
        self.fixes: list[Fix] = []
        self.consumptions: list[Consumption] = []
        self.streams: list[Stream] = []
        self.aligned: list[tuple[Array, int]] = []
        self._operator = ""
        self._node = ""

    def at(self, operator: str, node: str) -> None:
        """Say which operation the following edges and fixes come from."""
        self._operator = operator
        self._node = node

    def fresh(self, count: int) -> Array:
        """Return `count` new labels."""
        labels = np.arange(self.size, self.size + count, dtype=np.int64)
        self.size += count
        return labels

    def fresh_along(self, shape: Shape, dim: int) -> Array:
        """Return new labels along `dim` of a value of this shape, in broadcastable form."""
        return along(self.fresh(shape[dim]), dim, len(shape))

    def fresh_value(
        self, shape: Shape, *, parameter: str | None = None, dims: Iterable[int] | None = None
    ) -> Value:
        """Return a value with new labels along `dims` (all, when not given).

        Without a parameter the labels are *virtual*: a factory's size can follow any channel.
        """
        chosen = range(len(shape)) if dims is None else dims
        layers = tuple(
            Layer(
                self.fresh_along(shape, dim),
                () if parameter is None else (Slot(parameter, dim),),
            )
            for dim in chosen
            if shape[dim] > 1
        )
        return Value(shape, layers, from_parameters=parameter is not None)

    def fixed_value(self, shape: Shape, why: str, *, dims: Iterable[int] | None = None) -> Value:
        """Return a value without channels that remembers why `dims` (all, when not given) stay."""
        value = self.fresh_value(shape, dims=dims)
        self.fix_value(value, why)
        return Value(shape, held=value.layers)

    def couple(self, one: Array, other: Array) -> None:
        """Name the labels of both arrays, element by element, as the same channels."""
        one, other = (array.ravel() for array in np.broadcast_arrays(one, other))
        both = (one >= 0) & (other >= 0)
        lonely = both ^ ((one >= 0) | (other >= 0))
        if lonely.any():
            self.fix(np.where(one >= 0, one, other)[lonely], "joined with a constant element")
        both &= one != other
        if both.any():
            self.edges.append((one[both], other[both]))

    def fix(self, labels: Array, reason: str) -> None:
        """Keep these channels, for a reason the user will read."""
        distinct = np.unique(labels)
        distinct = distinct[distinct >= 0]
        if distinct.size:
            self.fixes.append(Fix(distinct, reason, self._operator, self._node))

    def fix_value(self, value: Value, reason: str) -> None:
        """Keep every channel of a value."""
        for layer in value.layers:
            self.fix(layer.labels, reason)

    def consume(self, layer: Layer) -> None:
        """Note that weights sum over these channels; without weights they are fixed."""
        if layer.origin:
            labels = np.unique(layer.labels)
            labels = labels[labels >= 0]
            self.consumptions.append(Consumption(labels, layer.origin, layer.makers))
        else:
            self.fix(layer.labels, "multiplied and summed by something that is not a plain weight")

    def normalise(self, layer: Layer) -> bool:
        """Let an RMSNorm average over a layer, and return whether that leaves it free."""
        if self._streams == "fix" or (self._streams == "known" and not layer.zeroed_by):
            return False
        self.streams.append(Stream(np.unique(layer.labels[layer.labels >= 0]), layer.zeroed_by))
        return True

    def align(self, value: Value, dim: int, multiple: int) -> None:
        """Keep the size of a dimension a multiple of a number, if it is one."""
        layer = next((layer for layer in value.layers if dim in layer.support), None)
        if layer is not None and value.shape[dim] % multiple == 0:
            self.aligned.append((layer.labels.ravel(), multiple))

    def value(
        self,
        shape: Sequence[int],
        layers: Iterable[Layer | None],
        *,
        from_parameters: bool = False,
        held: Iterable[Layer] = (),
    ) -> Value:
        """Build a value; a layer that has shrunk to one element is fixed and dropped."""
        kept = []
        for layer in layers:
            if layer is None:
                continue
            if layer.labels.size > 1:
                kept.append(layer)
            else:
                self.fix(layer.labels, "a single channel is selected")
        still_held = tuple(layer for layer in held if layer.labels.size > 1)
        return Value(tuple(shape), tuple(kept), from_parameters, held=still_held)


def along(labels: Array, dim: int, ndim: int) -> Array:
    """Place one-dimensional labels along `dim` of `ndim` dimensions."""
    shape = [1] * ndim
    shape[dim] = labels.size
    return labels.reshape(shape)


def trim(labels: Array) -> Array:
    """Drop the dimensions along which labels do not vary."""
    for dim in range(labels.ndim):
        if labels.shape[dim] > 1:
            first = labels.take([0], axis=dim)
            if (labels == first).all():
                labels = first
    return labels
