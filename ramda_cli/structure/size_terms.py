"""Sizes as functions of how many channels of each group are kept, and how many ranks of a weight.

The size of a dimension is a constant plus, for each group, its block times the channels kept.
Elements of a value and multiply-accumulates (MACs) of an operator are products of such sizes: MACs
are the elements of a contraction's result times the length of what it sums over. They are those of
one example; what an operator does once for the whole batch counts whole. A weight that has
lost ranks is a product of two, so its rows times its columns become its rank times both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from torch import fx

from ramda_cli.structure.discover import Structure
from ramda_cli.structure.einsum import contracted_pairs, einsum_names
from ramda_cli.structure.export import has_free_batch
from ramda_cli.structure.labels import Value
from ramda_cli.structure.matrices import Matrix
from ramda_cli.structure.solve import FIXED, shrinking_dim
from ramda_cli.structure.trace import Trace, operator_name, shape_of
from ramda_cli.tasks.inputs import tensors_of

Counts = npt.NDArray[np.float64]

_MATRIX_PRODUCTS = ("mm", "bmm", "matmul", "addmm", "baddbmm", "mv", "dot")


@dataclass(frozen=True, eq=False)
class Products:
    """A sum of products of affine functions of the kept counts.

    Attributes:
        constant: of each factor.
        slope: of each factor, per group.
        first_factor: of each product.
        coefficient: of each product.
    """

    constant: Counts
    slope: Counts
    first_factor: npt.NDArray[np.int64]
    coefficient: Counts

    def __call__(self, kept: Counts) -> float:
        """Return the sum for these kept counts."""
        if self.coefficient.size == 0:
            return 0.0
        factors = self.constant + self.slope @ kept
        return float(self.coefficient @ np.multiply.reduceat(factors, self.first_factor))


Factor = tuple[float, Counts]
"""The size of a dimension: a constant, and for each group the slope over its kept channels."""


Term = tuple[float, list[Factor]]
"""A product of sizes, and its coefficient."""


class SizeTerms:
    """The sizes of a model's values, and the work of its operators, over kept channels.

    Counts are the kept channels of each group, then the kept ranks of each matrix, then for each
    matrix 1 where it is a product of two and 0 where it is whole.

    Args:
        structure: from `discover`.
        matrices: weights that may lose ranks.
    """

    def __init__(self, structure: Structure, matrices: Sequence[Matrix] = ()) -> None:
        if structure.graph is None:
            raise ValueError("costs need the structure of discover(), not single-tensor groups")
        self._graph = structure.graph
        self._trace: Trace = structure.graph.trace
        self._group_of_class = np.full(self._graph.classes.count + 1, FIXED, dtype=np.int64)
        for number, group in enumerate(structure.groups):
            self._group_of_class[self._graph.members[group.name]] = number
        self._groups = len(structure.groups)
        self._channels = np.array([group.channels for group in structure.groups])
        self._batch = _batch_size(self._trace)
        self._is_free = has_free_batch(self._trace.program)
        named = self._trace.parameters
        self._matrices = {id(named[each.parameter]): i for i, each in enumerate(matrices)}

    @property
    def counts(self) -> int:
        """How many counts the sizes depend on."""
        return self._groups + 2 * len(self._matrices)

    def contraction(self, node: fx.Node) -> list[Term]:
        """Return the multiply-accumulates of one operator, for one input of the batch."""
        batch = self._batch if self._has_batch(node) else 1
        terms = [(c / batch, factors) for c, factors in self._contraction(node)]
        weight = self._weight(node)
        if weight is None or id(weight) not in self._matrices:
            return terms
        name = operator_name(node.target)
        places = self.elements(self._value(node), without=1 if name.startswith("conv") else -1)
        down, up = self._two(weight, places)
        if name == "embedding":
            return [(1 / batch, down)]  # rows of the first factor are looked up
        return [*self._whole(weight, terms), (1 / batch, down), (1 / batch, up)]

    def parameter(self, value: Value) -> list[Term]:
        """Return the elements of a parameter."""
        terms = [(1.0, self.elements(value))]
        if id(value) not in self._matrices:
            return terms
        return [*self._whole(value, terms), *((1.0, each) for each in self._two(value, []))]

    def _whole(self, weight: Value, terms: list[Term]) -> list[Term]:
        """Return the terms of a weight as they are while it is one matrix."""
        is_two = self._count(self._groups + len(self._matrices) + self._matrices[id(weight)])
        is_whole = 1.0, -is_two[1]
        return [(each, [*factors, is_whole]) for each, factors in terms]

    def _two(self, weight: Value, places: list[Factor]) -> tuple[list[Factor], list[Factor]]:
        """Return what the factors of a weight cost: columns by rank, and rank by rows."""
        number = self._groups + self._matrices[id(weight)]
        rank, is_two = self._count(number), self._count(number + len(self._matrices))
        cols = self.elements(weight, without=0)
        rows = self._factor(weight, 0)
        return [*places, *cols, rank, is_two], [*places, rows, rank, is_two]

    def _count(self, number: int) -> Factor:
        slope = np.zeros(self.counts)
        slope[number] = 1.0
        return 0.0, slope

    def _weight(self, node: fx.Node) -> Value | None:
        """Return the weight that a layer contracts with."""
        name = operator_name(node.target)
        if name == "embedding":
            return self._value(node.args[0])
        return self._value(node.args[1]) if name == "linear" or name.startswith("conv") else None

    def elements(self, value: Value, *, without: int | None = None) -> list[Factor]:
        """Return the sizes of a value's dimensions, those of 1 and perhaps another left out."""
        left_out = None if without is None else without % value.ndim
        return [
            self._factor(value, dim)
            for dim, size in enumerate(value.shape)
            if size > 1 and dim != left_out
        ]

    def _has_batch(self, node: fx.Node) -> bool:
        """Tell whether an operator works on every example of the batch, or once for all of them.

        Where the batch is free, it is what sizes of values depend on; elsewhere nothing is known.
        """
        if not self._is_free:
            return True
        tensors = tensors_of([each.meta.get("val") for each in (node, *node.all_input_nodes)])
        return any(not isinstance(size, int) for tensor in tensors for size in tensor.shape)

    def _contraction(self, node: fx.Node) -> list[Term]:
        name = operator_name(node.target)
        if name in ("lstm", "lstm_cell"):
            return self._recurrent(node)
        result = self._trace.values[node.name]
        if not isinstance(result, Value):
            return []
        if name.startswith("conv"):
            weight = self._value(node.args[1])
            whole = self._value(node.args[0]) if "transpose" in name else result
            kernel = [float(size) for size in weight.shape[2:]]
            factors = [*self.elements(whole), self._factor(weight, 1)]
            return [(float(np.prod(kernel)), factors)]
        if name == "linear":
            weight = self._value(node.args[1])
            return [(1.0, [*self.elements(result), self._factor(weight, 1)])]
        if name in _MATRIX_PRODUCTS:
            x = self._value(node.args[1 if name in ("addmm", "baddbmm") else 0])
            return [(1.0, [*self.elements(result), self._factor(x, x.ndim - 1)])]
        if name == "einsum":
            return self._einsum(node.args[0], node.args[1])
        if name == "scaled_dot_product_attention":
            query, key = self._value(node.args[0]), self._value(node.args[1])
            scores = [*self.elements(query), self._factor(key, key.ndim - 2)]
            return [(1.0, scores), (1.0, [*self.elements(result), self._factor(key, key.ndim - 2)])]
        return []

    def _einsum(self, equation: Any, operands: Any) -> list[Term]:
        """Return what the products of an einsum cost, one for each letter's index."""
        values = [self._value(each) for each in operands]
        names, result = einsum_names(equation, [value.ndim for value in values])
        # Where operands are spread over each other, the longer one says the size.
        placed = {
            letter: (value, dim)
            for value, each in zip(values, names, strict=True)
            for dim, letter in enumerate(each)
            if value.shape[dim] > 1
        }
        return [
            (1.0, [self._factor(*placed[letter]) for letter in letters if letter in placed])
            for letters in contracted_pairs(names, result)
        ]

    def _recurrent(self, node: fx.Node) -> list[Term]:
        """Return what an LSTM's matrices cost at all steps of all sequences."""
        x, _, weights = node.args[:3]
        if operator_name(node.target) == "lstm_cell":
            weights = node.args[2:4]
        steps = float(np.prod(self._value(x).shape[:-1]))
        tensors = [self._value(weight) for weight in cast(Sequence[Any], weights)]
        return [(steps, self.elements(weight)) for weight in tensors if weight.ndim == 2]

    def _value(self, node: Any) -> Value:
        value = self._trace.values[node.name]
        if not isinstance(value, Value):
            raise TypeError(f"{node.name} is not one tensor")
        return value

    def _factor(self, value: Value, dim: int) -> Factor:
        """Return a dimension's size as a constant and a slope per group."""
        slope = np.zeros(self.counts)
        layer = next((layer for layer in value.layers if dim in layer.support), None)
        if layer is None:
            return float(value.shape[dim]), slope
        groups = self._group_of_class[self._graph.classes.of(layer.labels)]
        if shrinking_dim(self._graph.classes.of(layer.labels)) != dim:
            return float(value.shape[dim]), slope
        other = tuple(d for d in range(groups.ndim) if d != dim)
        along_dim = groups.max(axis=other)
        free = along_dim[along_dim != FIXED]
        slope[: self._groups] += np.bincount(free, minlength=self._groups) / self._channels
        return float(value.shape[dim] - free.size), slope


def _batch_size(trace: Trace) -> int:
    names = set(trace.program.graph_signature.user_inputs)
    for node in trace.program.graph.nodes:
        if node.op == "placeholder" and node.name in names:
            shape = shape_of(node.meta["val"])
            return shape[0] if shape else 1
    return 1


def pack(terms: list[Term], counts: int) -> Products:
    """Return the sum of these products of sizes, each with its coefficient."""
    factors = [factor for _, listed in terms for factor in [*listed, (1.0, np.zeros(counts))]]
    lengths = [len(listed) + 1 for _, listed in terms]
    return Products(
        constant=np.array([constant for constant, _ in factors]),
        slope=np.array([slope for _, slope in factors]).reshape(len(factors), counts),
        first_factor=np.cumsum([0, *lengths[:-1]]).astype(np.int64),
        coefficient=np.array([coefficient for coefficient, _ in terms]),
    )
