"""Sizes as functions of how many channels of each group are kept.

The size of a dimension is a constant plus, for each group, its block times the channels kept.
Elements of a value and multiply-accumulates (MACs) of an operator are products of such sizes: MACs
are the elements of a contraction's result times the length of what it sums over.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import fx

from ramda_cli.structure.discover import Structure
from ramda_cli.structure.labels import Value
from ramda_cli.structure.solve import FIXED, shrinking_dim
from ramda_cli.structure.trace import Trace, operator_name, shape_of

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

    Args:
        structure: from `discover`.
    """

    def __init__(self, structure: Structure) -> None:
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

    @property
    def groups(self) -> int:
        """How many groups the structure has."""
        return self._groups

    def contraction(self, node: fx.Node) -> list[Term]:
        """Return the multiply-accumulates of one operator, for one input of the batch."""
        return [(c / self._batch, factors) for c, factors in self._contraction(node)]

    def elements(self, value: Value) -> list[Factor]:
        """Return the sizes of a value's dimensions, those of 1 left out."""
        return [self._factor(value, dim) for dim, size in enumerate(value.shape) if size > 1]

    def _contraction(self, node: fx.Node) -> list[Term]:
        name = operator_name(node.target)
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
        if name == "scaled_dot_product_attention":
            query, key = self._value(node.args[0]), self._value(node.args[1])
            scores = [*self.elements(query), self._factor(key, key.ndim - 2)]
            return [(1.0, scores), (1.0, [*self.elements(result), self._factor(key, key.ndim - 2)])]
        return []

    def _value(self, node: Any) -> Value:
        value = self._trace.values[node.name]
        if not isinstance(value, Value):
            raise TypeError(f"{node.name} is not one tensor")
        return value

    def _factor(self, value: Value, dim: int) -> Factor:
        """Return a dimension's size as a constant and a slope per group."""
        slope = np.zeros(self._groups)
        layer = next((layer for layer in value.layers if dim in layer.support), None)
        if layer is None:
            return float(value.shape[dim]), slope
        groups = self._group_of_class[self._graph.classes.of(layer.labels)]
        if shrinking_dim(self._graph.classes.of(layer.labels)) != dim:
            return float(value.shape[dim]), slope
        other = tuple(d for d in range(groups.ndim) if d != dim)
        along_dim = groups.max(axis=other)
        free = along_dim[along_dim != FIXED]
        slope += np.bincount(free, minlength=self._groups) / self._channels
        return float(value.shape[dim] - free.size), slope


def _batch_size(trace: Trace) -> int:
    names = set(trace.program.graph_signature.user_inputs)
    for node in trace.program.graph.nodes:
        if node.op == "placeholder" and node.name in names:
            shape = shape_of(node.meta["val"])
            return shape[0] if shape else 1
    return 1


def pack(terms: list[Term], groups: int) -> Products:
    """Return the sum of these products of sizes, each with its coefficient."""
    factors = [factor for _, listed in terms for factor in [*listed, (1.0, np.zeros(groups))]]
    lengths = [len(listed) + 1 for _, listed in terms]
    return Products(
        constant=np.array([constant for constant, _ in factors]),
        slope=np.array([slope for _, slope in factors]).reshape(len(factors), groups),
        first_factor=np.cumsum([0, *lengths[:-1]]).astype(np.int64),
        coefficient=np.array([coefficient for coefficient, _ in terms]),
    )
