"""What the rewriting of an operator may ask of the graph, and how it adds to the new one."""

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from ramda_cli.structure.labels import Array, Mask, Value
from ramda_cli.structure.trace import NodeValue
from ramda_cli.surgery.kept import KeptPositions
from ramda_cli.surgery.program import Operation, Reference, to_references


class RewriteContext:
    """The new graph while it is being written.

    Attributes:
        kept: what is left of every value.
        operations: of the new graph, so far.
        constants: its new index tensors, by name.
    """

    def __init__(self, values: Mapping[str, NodeValue], kept: KeptPositions) -> None:
        self.kept = kept
        self.operations: list[Operation] = []
        self.constants: dict[str, Tensor] = {}
        self._values = values

    def value(self, node: fx.Node) -> Value:
        """Return what is known of a node that is one tensor."""
        value = self._values[node.name]
        if not isinstance(value, Value):
            raise TypeError(f"{node.name} is not one tensor")
        return value

    def pieces(self, node: fx.Node) -> list[Value]:
        """Return what is known of a node that is a list of tensors."""
        values = self._values[node.name]
        if not isinstance(values, list):
            raise TypeError(f"{node.name} is not a list of tensors")
        return values

    def mask(self, node: fx.Node, dim: int) -> Mask | None:
        """Return which positions of a node's dimension stay, None when all do."""
        return self.kept.masks(self.value(node))[dim]

    def call(self, name: str, target: Any, *args: Any) -> Reference:
        """Add an operation and return a reference to its result."""
        self.operations.append(Operation(name, target, to_references(args)))
        return Reference(name)

    def constant(self, name: str, positions: Array) -> Reference:
        """Add a constant index tensor."""
        self.constants[name] = torch.from_numpy(np.ascontiguousarray(positions))
        return Reference(name)

    def size(self, node: fx.Node, requested: Any, dim: int, old: int, new: int) -> Any:
        """Return a size argument for a dimension that went from `old` to `new` positions."""
        if old == new or (isinstance(requested, int) and requested == -1):
            return to_references(requested)
        if isinstance(requested, int):
            return new
        scaled = self.call(f"{node.name}_size{dim}", operator.mul, requested, new)
        return self.call(f"{node.name}_kept{dim}", operator.floordiv, scaled, old)
