"""Rewrite the exported graph for fewer channels: every size is the count of kept positions."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind

from ramda_cli.structure.discover import ChannelGraph
from ramda_cli.structure.labels import Value
from ramda_cli.structure.support import named_tensors
from ramda_cli.structure.trace import operator_name
from ramda_cli.surgery.kept import KeptPositions, Mask
from ramda_cli.surgery.program import (
    GraphModel,
    GraphProgram,
    Operation,
    Reference,
    drop_unused,
    references,
    to_references,
)

_aten = torch.ops.aten


def rewrite(
    model: nn.Module, graph: ChannelGraph, removed: Mapping[str, Sequence[int]]
) -> GraphModel:
    """Return a module that computes the model's function with these channels gone.

    Args:
        model: whose parameters and buffers are sliced; it is left as it is.
        graph: of the structure that was discovered on it.
        removed: channels by group name.
    """
    return _Rewriter(model, graph, KeptPositions(graph, removed)).model()


class _Rewriter:
    def __init__(self, model: nn.Module, graph: ChannelGraph, kept: KeptPositions) -> None:
        self.kept = kept
        self._tensors = named_tensors(model)
        self._trace = graph.trace
        self._program = graph.trace.program
        self._operations: list[Operation] = []
        self._constants: dict[str, Tensor] = {}

    def model(self) -> GraphModel:
        for node in self._program.graph.nodes:
            if node.op == "call_function" and node.meta.get("val") is not None:
                self._rewrite_call(node)
        inputs, tensors = self._placeholders()
        output = self._output()
        operations = drop_unused(self._operations, output)
        used = {name for o in operations for name in references([o.args, dict(o.kwargs)])}
        used |= set(references(output))
        tensors = {name: target for name, target in tensors.items() if name in used}
        program = GraphProgram(inputs, tensors, operations, output)
        return self._with_tensors(program)

    def value(self, node: Any) -> Value:
        """Return what is known of an argument's node."""
        value = self._trace.values[node.name]
        if not isinstance(value, Value):
            raise TypeError(f"{node.name} is not one tensor")
        return value

    def mask(self, node: Any, dim: int) -> Mask | None:
        """Return which positions of a node's dimension stay, None when all do."""
        return self.kept.masks(self.value(node))[dim]

    def call(self, name: str, target: Any, *args: Any) -> Reference:
        """Add an operation and return a reference to its result."""
        self._operations.append(Operation(name, target, to_references(args)))
        return Reference(name)

    def constant(self, name: str, positions: np.ndarray[Any, Any]) -> Reference:
        """Add a constant index tensor."""
        self._constants[name] = torch.from_numpy(np.ascontiguousarray(positions))
        return Reference(name)

    def size(self, node: fx.Node, requested: Any, dim: int, old: int, new: int) -> Any:
        """Return a size argument for a dimension that went from `old` to `new` positions."""
        if old == new or (isinstance(requested, int) and requested == -1):
            return to_references(requested)
        if isinstance(requested, int):
            return new
        scaled = self.call(f"{node.name}_size{dim}", operator.mul, requested, new)
        return self.call(f"{node.name}_kept{dim}", operator.floordiv, scaled, old)

    def _rewrite_call(self, node: fx.Node) -> None:
        name = operator_name(node.target)
        rewriting = _REWRITES.get(name)
        if rewriting is None:
            args, kwargs = to_references(node.args), to_references(node.kwargs)
            self._operations.append(Operation(node.name, node.target, args, kwargs))
        else:
            self._operations.append(rewriting(self, node))

    def _placeholders(self) -> tuple[tuple[str, ...], dict[str, str]]:
        inputs: list[str] = []
        tensors = {name: name for name in self._constants}
        for spec in self._program.graph_signature.input_specs:
            name = getattr(spec.arg, "name", None)
            if spec.kind == InputKind.USER_INPUT:
                if name is not None:
                    inputs.append(name)
            elif name is not None and spec.target is not None:
                tensors[name] = self._trace.aliases.get(spec.target, spec.target)
        return tuple(inputs), tensors

    def _output(self) -> Any:
        node = next(n for n in self._program.graph.nodes if n.op == "output")
        flat = [to_references(argument) for argument in node.args[0]]
        spec = self._program.call_spec.out_spec
        return torch.utils._pytree.tree_unflatten(flat, spec)

    def _with_tensors(self, program: GraphProgram) -> GraphModel:
        state = {**self._program.constants, **self._tensors}
        trainable = set(self._program.graph_signature.parameters)
        parameters: dict[str, Tensor] = {}
        buffers: dict[str, Tensor] = {}
        for target in dict.fromkeys(program.tensors.values()):
            tensor = self._constants[target] if target in self._constants else state[target]
            if not isinstance(tensor, Tensor):
                raise TypeError(f"{target} is not a tensor")
            kept = self._slice(target, tensor.detach())
            if target in trainable:
                parameters[target] = kept.requires_grad_(tensor.requires_grad)
            else:
                buffers[target] = kept
        return GraphModel(program, parameters, buffers)

    def _slice(self, target: str, tensor: Tensor) -> Tensor:
        value = self._trace.parameters.get(target)
        return tensor.clone() if value is None else slice_tensor(tensor, self.kept.masks(value))


def slice_tensor(tensor: Tensor, masks: Sequence[Mask | None]) -> Tensor:
    """Return a copy with only the kept positions of every dimension."""
    kept = tensor.clone() if all(mask is None for mask in masks) else tensor
    for dim, mask in enumerate(masks):
        if mask is not None:
            positions = torch.from_numpy(np.flatnonzero(mask)).to(tensor.device)
            kept = kept.index_select(dim, positions)
    return kept.contiguous()


def _sized(position: int) -> Callable[[_Rewriter, fx.Node], Operation]:
    """Rewrite an operator whose argument at `position` lists the result's sizes."""

    def rewriting(rewriter: _Rewriter, node: fx.Node) -> Operation:
        value = rewriter.value(node)
        requested = node.args[position]
        sizes = [
            rewriter.size(node, size, dim, old, new)
            for dim, (size, old, new) in enumerate(
                zip(requested, value.shape, rewriter.kept.shape(value), strict=True)  # type: ignore[arg-type]
            )
        ]
        args = [to_references(argument) for argument in node.args]
        args[position] = sizes
        return Operation(node.name, node.target, tuple(args), to_references(node.kwargs))

    return rewriting


def _plain(node: fx.Node) -> Operation:
    return Operation(node.name, node.target, to_references(node.args), to_references(node.kwargs))


def _slice(rewriter: _Rewriter, node: fx.Node) -> Operation:
    x, dim, start, end, step = (*node.args, *(0, None, None, 1)[len(node.args) - 1 :])
    source = rewriter.value(x)
    axis = dim % source.ndim  # type: ignore[operator]
    mask = rewriter.mask(x, axis)
    if mask is None:
        return _plain(node)
    chosen = np.arange(mask.size)[start:end:step]  # type: ignore[misc]
    return _select_positions(rewriter, node, x, axis, mask, chosen)


def _select_positions(
    rewriter: _Rewriter, node: fx.Node, x: Any, axis: int, mask: Mask, chosen: Any
) -> Operation:
    """Take the kept ones of the chosen positions: a slice where they follow each other."""
    new_position = np.cumsum(mask) - 1
    positions = new_position[chosen[mask[chosen]]]
    first = int(positions[0]) if positions.size else 0
    if (np.diff(positions) == 1).all():
        args = (x, axis, first, first + int(positions.size))
        return Operation(node.name, _aten.slice.Tensor, to_references(args))
    index = rewriter.constant(f"{node.name}_positions", positions)
    return Operation(node.name, _aten.index_select.default, (to_references(x), axis, index))


def _select(rewriter: _Rewriter, node: fx.Node) -> Operation:
    x, dim, position = node.args
    axis = dim % rewriter.value(x).ndim  # type: ignore[operator]
    mask = rewriter.mask(x, axis)
    if mask is None:
        return _plain(node)
    new = int(mask[: position % mask.size].sum())  # type: ignore[operator]
    return Operation(node.name, node.target, to_references((x, axis, new)))


def _split(rewriter: _Rewriter, node: fx.Node) -> Operation:
    x = node.args[0]
    dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    axis = dim % rewriter.value(x).ndim  # type: ignore[operator]
    if rewriter.mask(x, axis) is None:
        return _plain(node)
    pieces = rewriter._trace.values[node.name]
    sizes = [rewriter.kept.shape(piece)[axis] for piece in pieces]  # type: ignore[union-attr,arg-type]
    return Operation(node.name, _aten.split_with_sizes.default, to_references((x, sizes, axis)))


def _pad(rewriter: _Rewriter, node: fx.Node) -> Operation:
    x, padding = node.args[0], list(node.args[1])  # type: ignore[arg-type]
    value, source = rewriter.value(node), rewriter.value(x)
    for dim, mask in enumerate(rewriter.kept.masks(value)):
        pair = 2 * (value.ndim - 1 - dim)
        if mask is not None and pair < len(padding):
            before = padding[pair]
            padding[pair] = int(mask[:before].sum())
            padding[pair + 1] = int(mask[before + source.shape[dim] :].sum())
    args = (x, padding, *node.args[2:])
    return Operation(node.name, node.target, to_references(args), to_references(node.kwargs))


def _conv_groups(rewriter: _Rewriter, node: fx.Node) -> Operation:
    transposed = "transpose" in operator_name(node.target)
    x, weight = node.args[0], node.args[1]
    whole = rewriter.value(node if transposed else x)
    per_group = rewriter.kept.shape(rewriter.value(weight))[1]
    groups = rewriter.kept.shape(whole)[1] // per_group
    position = 6
    args = list(node.args)
    if len(args) <= position:
        return _plain(node)
    args[position] = groups
    return Operation(node.name, node.target, to_references(tuple(args)))


def _group_norm(rewriter: _Rewriter, node: fx.Node) -> Operation:
    x, groups = rewriter.value(node.args[0]), node.args[1]
    per_group = x.shape[1] // groups  # type: ignore[operator]
    args = list(node.args)
    args[1] = rewriter.kept.shape(x)[1] // per_group
    return Operation(node.name, node.target, to_references(tuple(args)))


def _attention(rewriter: _Rewriter, node: fx.Node) -> Operation:
    """Keep the scale that the dense head size implied."""
    query = rewriter.value(node.args[0])
    kwargs = dict(node.kwargs)
    if rewriter.mask(node.args[0], query.ndim - 1) is not None and kwargs.get("scale") is None:
        kwargs["scale"] = query.shape[-1] ** -0.5
    return Operation(node.name, node.target, to_references(node.args), to_references(kwargs))


def _index(rewriter: _Rewriter, node: fx.Node) -> Operation:
    """Renumber a known index into a dimension that shrinks."""
    x, indices = node.args[0], node.args[1]
    for dim, index in enumerate(indices):  # type: ignore[arg-type]
        mask = rewriter.mask(x, dim)
        if index is None or mask is None:
            continue
        data = rewriter.value(index).data
        if data is None or data.ndim != 1:
            raise NotImplementedError(f"{node.name} indexes a channel dimension")
        return _select_positions(rewriter, node, x, dim, mask, data.cpu().numpy())
    return _plain(node)


def _index_select(rewriter: _Rewriter, node: fx.Node) -> Operation:
    x, dim, index = node.args
    axis = dim % rewriter.value(x).ndim  # type: ignore[operator]
    mask = rewriter.mask(x, axis)
    data = rewriter.value(index).data
    if mask is None or data is None:
        return _plain(node)
    return _select_positions(rewriter, node, x, axis, mask, data.cpu().numpy())


def _symbolic_size(rewriter: _Rewriter, node: fx.Node) -> Operation:
    """Give back the dense size: the sizes that depend on it are scaled where they are used."""
    x, dim = node.args
    value = rewriter.value(x)
    old, new = value.shape[dim], rewriter.kept.shape(value)[dim]  # type: ignore[index]
    if old == new:
        return _plain(node)
    now = rewriter.call(f"{node.name}_now", node.target, x, dim)
    scaled = rewriter.call(f"{node.name}_scaled", operator.mul, now, old)
    return Operation(node.name, operator.floordiv, (scaled, new))


_REWRITES: dict[str, Callable[[_Rewriter, fx.Node], Operation]] = {
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "expand", "new_zeros", "new_ones",
                     "new_full", "new_empty", "_reshape_copy"), _sized(1)),
    **dict.fromkeys(("full", "zeros", "ones", "empty"), _sized(0)),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
                     "conv_transpose3d"), _conv_groups),
    **dict.fromkeys(("split", "split_with_sizes"), _split),
    **dict.fromkeys(("constant_pad_nd", "pad"), _pad),
    "slice": _slice,
    "select": _select,
    "group_norm": _group_norm,
    "scaled_dot_product_attention": _attention,
    "index": _index,
    "index_select": _index_select,
    "sym_size": _symbolic_size,
}  # fmt: skip
