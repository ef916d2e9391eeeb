"""What a model costs, as a function of how many channels of each group, and ranks, are kept.

Counted are the multiply-accumulates (MACs) of convolutions, linear layers and matrix products for a
batch of one, the elements of parameters, and the bytes of the state dict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import fx

from ramda_cli.structure.discover import Structure
from ramda_cli.structure.kinds import attention_heads, hidden_units
from ramda_cli.structure.labels import Value
from ramda_cli.structure.matrices import Matrix
from ramda_cli.structure.size_terms import Counts, Products, SizeTerms, Term, pack
from ramda_cli.structure.trace import Trace, operator_name


@dataclass(frozen=True)
class Size:
    """The size of a model.

    Attributes:
        macs: multiply-accumulates of one input.
        params: elements of trainable parameters.
        channels: removable channels.
    """

    macs: int
    params: int
    channels: int


class CostModel:
    """The size of a model for any number of kept channels per group, and of kept ranks.

    Where weights may lose ranks they come after the groups, each with its full rank: one that keeps
    it is whole, and one that does not is two layers.

    Args:
        structure: from `discover`.
        matrices: weights that may lose ranks.
    """

    def __init__(self, structure: Structure, matrices: Sequence[Matrix] = ()) -> None:
        groups = structure.groups
        self.matrices = tuple(matrices)
        self.names = (*(group.name for group in groups), *(each.parameter for each in matrices))
        units = [*(group.channels for group in groups), *(each.full_rank for each in matrices)]
        self.channels = np.array(units, dtype=np.float64)
        if structure.graph is None:
            raise ValueError("costs need the structure of discover(), not single-tensor groups")
        sizes, traced = SizeTerms(structure, matrices), structure.graph.trace
        terms = {
            "macs": _macs(sizes, traced),
            "params": _params(sizes, traced),
            "channels": _count(np.ones(len(groups), dtype=np.bool_), sizes),
            "size_mb": _bytes(sizes, traced),
            "heads": _count(attention_heads(structure), sizes),
            "ffn": _count(hidden_units(structure), sizes),
            "body_macs": _body_macs(sizes, traced),
            "body_params": _body_params(sizes, traced),
        }
        self._products = {name: pack(each, sizes.counts) for name, each in terms.items()}

    def size(self, kept: Counts | None = None) -> Size:
        """Return the size with these channels kept in each group, all when not given."""
        counts = self.channels if kept is None else kept
        return Size(*(self.measure(name, counts) for name in ("macs", "params", "channels")))

    def macs(self, kept: Counts) -> int:
        """Return the multiply-accumulates of one input."""
        return self.measure("macs", kept)

    def measure(self, metric: str, kept: Counts) -> int:
        """Return one of the costs, in whole units.

        Args:
            metric: `macs`, `params`, `channels`, `size_mb` in bytes of the state dict's tensors,
                `heads` of attention, `ffn` units, `body_macs` and `body_params` without
                embeddings and the layer onto the vocabulary, or another that `add` has named.
            kept: channels of each group, then ranks of each matrix.
        """
        ranks = slice(self.channels.size - len(self.matrices), None)
        is_two = (kept < self.channels)[ranks]
        return round(self._products[metric](np.concatenate([kept, is_two])))

    def depends_on(self, metric: str) -> npt.NDArray[np.bool_]:
        """Tell for each group, and each matrix, whether a cost depends on it."""
        return (self._products[metric].slope != 0).any(axis=0)[: self.channels.size]

    def products(self, metric: str) -> Products:
        """Return the formula behind `measure`, of a model that loses no ranks."""
        return self._products[metric]

    def add(self, metric: str, products: Products) -> None:
        """Name a further cost."""
        self._products[metric] = products

    def kept(self, removed: Mapping[str, Any]) -> Counts:
        """Return the kept counts after removing these channels, by group name, and ranks."""
        gone = np.array([len(removed.get(name, ())) for name in self.names], dtype=np.float64)
        return self.channels - gone


def _macs(sizes: SizeTerms, traced: Trace) -> list[Term]:
    calls = (node for node in traced.program.graph.nodes if node.op == "call_function")
    return [term for node in calls for term in sizes.contraction(node)]


def _params(sizes: SizeTerms, traced: Trace) -> list[Term]:
    trainable = set(traced.program.graph_signature.parameters)
    named = traced.parameters.items()
    return [term for name, value in named if name in trainable for term in sizes.parameter(value)]


def _count(chosen: npt.NDArray[np.bool_], sizes: SizeTerms) -> list[Term]:
    slope = np.zeros(sizes.counts)
    slope[: chosen.size] = chosen
    return [(1.0, [(0.0, slope)])]


def _body_macs(sizes: SizeTerms, traced: Trace) -> list[Term]:
    """Return the MACs without those of the layers onto the vocabulary."""
    left_out = _onto_vocabulary(traced)
    return [
        term
        for node in traced.program.graph.nodes
        if node.op == "call_function" and node not in left_out
        for term in sizes.contraction(node)
    ]


def _body_params(sizes: SizeTerms, traced: Trace) -> list[Term]:
    """Return the parameters without token embeddings and layers onto the vocabulary."""
    trainable = set(traced.program.graph_signature.parameters)
    nodes = (*_lookups(traced), *(node.args[1] for node in _onto_vocabulary(traced)))
    left_out = {id(value) for node in nodes if (value := _value(node, traced)) is not None}
    return [
        term
        for name, value in traced.parameters.items()
        if name in trainable and id(value) not in left_out
        for term in sizes.parameter(value)
    ]


def _lookups(traced: Trace) -> list[fx.Node]:
    """Return the tables in which tokens are looked up: those with the most rows."""
    tables = {
        node.args[0]: _rows(node.args[0], traced)
        for node in traced.program.graph.nodes
        if node.op == "call_function" and operator_name(node.target) == "embedding"
    }
    return [table for table, rows in tables.items() if rows == max(tables.values())]


def _onto_vocabulary(traced: Trace) -> set[fx.Node]:
    """Return the linear layers with an output for every token, after which nothing contracts."""
    words = {_rows(table, traced) for table in _lookups(traced)}
    found: set[fx.Node] = set()
    contracts: set[fx.Node] = set()
    for node in reversed(traced.program.graph.nodes):
        later = any(user in contracts for user in node.users)
        linear = node.op == "call_function" and operator_name(node.target) == "linear"
        if linear and not later and _rows(node.args[1], traced) in words:
            found.add(node)
        if later or linear:
            contracts.add(node)
    return found


def _rows(node: object, traced: Trace) -> int:
    value = _value(node, traced)
    return value.shape[0] if value is not None and value.shape else 0


def _value(node: object, traced: Trace) -> Value | None:
    value = traced.values[node.name] if isinstance(node, fx.Node) else None
    return value if isinstance(value, Value) else None


def _bytes(sizes: SizeTerms, traced: Trace) -> list[Term]:
    terms: list[Term] = []
    for name, tensor in traced.program.state_dict.items():
        if name in traced.parameters:
            elements = sizes.parameter(traced.parameters[name])
            terms += [(tensor.element_size() * c, factors) for c, factors in elements]
        elif name not in traced.aliases:
            # The graph has no use for it, and removal leaves it as it is.
            terms.append((float(tensor.numel() * tensor.element_size()), []))
    return terms
