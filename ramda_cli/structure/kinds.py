"""What groups are, as far as the graph says: attention heads, hidden units of MLPs, the rest.

A group's channels are heads where they index the scores of an attention: they run along dimension
-3 of the query of a `scaled_dot_product_attention`, or of what a softmax normalises. Hidden units
are channels that at most two matrices make (an MLP's first layer, and its gate) and at most two
read, from a width to the same width.
"""

import numpy as np
import numpy.typing as npt
from torch import fx

from ramda_cli.structure.discover import Structure
from ramda_cli.structure.groups import DependencyGroup, ParameterSlice
from ramda_cli.structure.labels import Value
from ramda_cli.structure.trace import Trace, operator_name

Mask = npt.NDArray[np.bool_]

_HEADS_DIM = -3
_MOST = 2
_PRODUCTS = {"matmul", "bmm", "einsum", "baddbmm"}
_CARRIERS = {
    "alias", "clone", "contiguous", "dropout", "expand", "permute", "reshape", "to", "_to_copy",
    "transpose", "type_as", "unsqueeze", "view", "where",
}  # fmt: skip
_SOFTMAXES = ("softmax", "_softmax", "_safe_softmax")


def attention_heads(structure: Structure) -> Mask:
    """Tell for each group whether its channels are attention heads."""
    graph = structure.graph
    if graph is None:
        raise ValueError("kinds need the structure of discover(), not single-tensor groups")
    found: set[int] = set()
    for node in graph.trace.program.graph.nodes:
        value = _scores(node, graph.trace)
        if value is not None and value.ndim >= -_HEADS_DIM:
            for layer in value.layers:
                if value.ndim + _HEADS_DIM in layer.support:
                    found.update(np.unique(graph.classes.of(layer.labels)).tolist())
    return np.array(
        [bool(found & set(graph.members[g.name].tolist())) for g in structure.groups], dtype=bool
    )


def has_attention(structure: Structure) -> bool:
    """Tell whether the model has an attention, whatever of it can be removed.

    That is a `scaled_dot_product_attention`, or a softmax over the last dimension whose result goes
    into a product of matrices.
    """
    graph = structure.graph
    if graph is None:
        raise ValueError("kinds need the structure of discover(), not single-tensor groups")
    for node in graph.trace.program.graph.nodes:
        if node.op != "call_function":
            continue
        name = operator_name(node.target)
        if name == "scaled_dot_product_attention":
            return True
        value = graph.trace.values.get(node.name)
        if name not in _SOFTMAXES or not isinstance(value, Value):
            continue
        if node.args[1] in (-1, value.ndim - 1) and _is_multiplied(node):
            return True
    return False


def _is_multiplied(node: fx.Node) -> bool:
    """Tell whether a product of matrices takes a value, as it is or in another shape or dtype."""
    waiting, seen = [node], {node}
    while waiting:
        for user in waiting.pop().users:
            name = operator_name(user.target) if user.op == "call_function" else ""
            if name in _PRODUCTS:
                return True
            if name in _CARRIERS and user not in seen:
                seen.add(user)
                waiting.append(user)
    return False


def hidden_units(structure: Structure) -> Mask:
    """Tell for each group whether its channels are the hidden units of an MLP."""
    heads = attention_heads(structure)
    graph = structure.graph
    if graph is None:
        raise ValueError("kinds need the structure of discover(), not single-tensor groups")
    trace = graph.trace
    convolved, tables = _weights_of(trace, "conv", 1), _weights_of(trace, "embedding", 0)
    return np.array(
        [
            not is_heads and _is_hidden(group, trace, convolved, tables)
            for group, is_heads in zip(structure.groups, heads, strict=True)
        ],
        dtype=bool,
    )


def _scores(node: fx.Node, trace: Trace) -> Value | None:
    """Return a value that has the heads along dimension -3, where a call is of an attention."""
    if node.op != "call_function":
        return None
    name = operator_name(node.target)
    if name == "scaled_dot_product_attention" or name in _SOFTMAXES:
        argument = node.args[0]
        value = trace.values[argument.name] if isinstance(argument, fx.Node) else None
        return value if isinstance(value, Value) else None
    return None


def _is_hidden(group: DependencyGroup, trace: Trace, convolved: set[str], tables: set[str]) -> bool:
    read = list(group.penalized)
    slots = {(part.parameter, part.dim) for part in read}
    made = [
        part
        for part in group.coupled
        if (part.parameter, part.dim) not in slots and len(_shape(part, trace)) > 1
    ]
    matrices = {part.parameter for part in (*read, *made)} - convolved
    looked_up = {part.parameter for part in made} & tables
    plain = not looked_up and len(matrices) == len({part.parameter for part in (*read, *made)})
    if not read or not made or not plain or any(part.block != 1 for part in read):
        return False
    # Back to the width that they are made from: a classifier's own hidden layer is not that.
    widths = {_other(part, trace) for part in (*read, *made)}
    return len(read) <= _MOST and len(made) <= _MOST and len(widths) == 1


def _shape(part: ParameterSlice, trace: Trace) -> tuple[int, ...]:
    return trace.parameters[part.parameter].shape


def _other(part: ParameterSlice, trace: Trace) -> int:
    """Return the size of the other of a matrix's dimensions; experts come before the last two."""
    shape = _shape(part, trace)
    return shape[-2] if part.dim == len(shape) - 1 else shape[-1]


def _weights_of(trace: Trace, operator: str, argument: int) -> set[str]:
    """Return the names of the parameters that operators of such a name take in one place."""
    names = trace.program.graph_signature.inputs_to_parameters
    found = set()
    for node in trace.program.graph.nodes:
        if node.op == "call_function" and operator_name(node.target).startswith(operator):
            weight = node.args[argument]
            if isinstance(weight, fx.Node) and weight.name in names:
                found.add(trace.aliases.get(names[weight.name], names[weight.name]))
    return found
