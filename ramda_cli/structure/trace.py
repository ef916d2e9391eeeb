"""Walk the exported graph once and let every operator's rule say what it does to channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from ramda_cli.structure.labels import Couplings, Shape, Slot, Value
from ramda_cli.structure.rules import RULES, Output, Rule, unlabelled
from ramda_cli.structure.rules.pointwise import pointwise
from ramda_cli.structure.rules.reduction import reduction

NodeValue = Value | list[Value] | int | float | bool | None

_MAX_KNOWN_ELEMENTS = 10_000_000
_UNKNOWN_SIZE = 2
"""Stands for a size that depends on the input's values; whatever has one carries no channels."""


@dataclass(frozen=True, eq=False)
class Trace:
    """What the rules found on one graph.

    Attributes:
        program: the exported program.
        couplings: edges, fixes and consumers.
        values: by node name.
        parameters: float parameters and buffers by qualified name, one name for tied ones.
        aliases: the other names of tied parameters, to the one in `parameters`.
    """

    program: ExportedProgram
    couplings: Couplings
    values: Mapping[str, NodeValue]
    parameters: Mapping[str, Value]
    aliases: Mapping[str, str] = field(default_factory=dict)


def trace(program: ExportedProgram, *, boundary: bool = False, residual: bool = False) -> Trace:
    """Label the channels of every value in the graph.

    Args:
        program: from `export_graph`.
        boundary: whether the program is a part of a model, so that what goes in and out of it
            may shrink; dimension 0 of its inputs is the batch.
        residual: whether widths that an RMSNorm normalises may shrink where that is exact.
    """
    tracer = _Tracer(program, boundary=boundary, residual=residual)
    for node in program.graph.nodes:
        tracer.visit(node)
    return Trace(program, tracer.couplings, tracer.values, tracer.parameters, dict(tracer.aliases))


def size_hint(size: int | torch.SymInt) -> int:
    """Return a size, a symbolic one at the value it had for the example inputs."""
    if isinstance(size, int):
        return size
    hint = size.node.hint
    return _UNKNOWN_SIZE if hint is None else int(cast(int, hint))


def shape_of(tensor: Tensor) -> Shape:
    """Return a shape with symbolic sizes at their example values."""
    return tuple(size_hint(size) for size in tensor.shape)


def operator_name(target: Any) -> str:
    """Return `conv2d` for `aten.conv2d.default`, and a plain function's own name."""
    if isinstance(target, torch._ops.OpOverload):
        namespace, name = target._schema.name.split("::")
        return name if namespace == "aten" else f"{namespace}::{name}"
    return getattr(target, "__name__", str(target))


def module_paths(graph: fx.Graph) -> dict[str, str]:
    """Return, for each call inside a submodule, the submodule's path by the call's name."""
    paths = {}
    for node in graph.nodes:
        stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
        if node.op == "call_function" and stack and stack[-1]:
            paths[node.name] = stack[-1]
    return paths


def arguments(node: fx.Node) -> tuple[Any, ...]:
    """Return the positional arguments of a call; what they are follows from its operator."""
    return node.args


class _Tracer:
    def __init__(self, program: ExportedProgram, *, boundary: bool, residual: bool) -> None:
        self._boundary = boundary
        # What flows into a part of a model was looked at in the whole.
        self.couplings = Couplings(streams="all" if boundary else "known" if residual else "fix")
        self.values: dict[str, NodeValue] = {}
        self.parameters: dict[str, Value] = {}
        self.aliases: dict[str, str] = {}
        self._by_storage: dict[int, tuple[str, tuple[object, ...]]] = {}
        self._program = program
        self._inputs = {
            spec.arg.name: spec
            for spec in program.graph_signature.input_specs
            if hasattr(spec.arg, "name")
        }

    def visit(self, node: fx.Node) -> None:
        name = operator_name(node.target) if node.op == "call_function" else ""
        self.couplings.at(name, node.name)
        if node.op == "placeholder":
            self.values[node.name] = self._placeholder(node)
        elif node.op == "output":
            if not self._boundary:
                self._fix_outputs(node)
        elif node.op == "get_attr":
            # The branch of a higher-order operation, which has no rule and fixes what it touches.
            self.values[node.name] = None
        else:
            self.values[node.name] = self._call(node)

    def _placeholder(self, node: fx.Node) -> NodeValue:
        example = node.meta.get("val")
        if not isinstance(example, Tensor):
            return None if example is None else _number(example)
        spec = self._inputs[node.name]
        if spec.kind == InputKind.USER_INPUT or spec.target is None:
            shape = shape_of(example)
            if self._boundary and example.is_floating_point():
                return self.couplings.fresh_value(shape, dims=range(1, len(shape)))
            return self.couplings.fixed_value(shape, "the model's input", dims=range(1, len(shape)))
        tensor = self._program.state_dict.get(spec.target)
        if tensor is None:
            tensor = self._program.constants.get(spec.target)
        if not example.is_floating_point():
            data = tensor.detach() if isinstance(tensor, Tensor) else None
            return Value(shape_of(example), data=data)
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{spec.target} has no content")
        return self._parameter(spec.target, tensor, trained=spec.kind == InputKind.PARAMETER)

    def _parameter(self, name: str, tensor: Tensor, *, trained: bool) -> Value:
        """Label a parameter or buffer; tied ones get the same labels.

        Only a parameter can be driven to zero, so buffers consume nothing.
        """
        shape = tuple(tensor.shape)
        storage = tensor.untyped_storage().data_ptr()
        first, layout = self._by_storage.setdefault(storage, (name, _layout(tensor)))
        if first != name and layout == _layout(tensor):
            self.aliases[name] = first
            return self.parameters[first]
        value = self.couplings.fresh_value(shape, parameter=name)
        if not trained:
            value = replace(value, layers=tuple(layer.without_origin() for layer in value.layers))
        if first != name:
            for shared in (value, self.parameters[first]):
                self.couplings.fix_value(shared, "shares its storage with another parameter")
        self.parameters[name] = value
        return value

    def _fix_outputs(self, node: fx.Node) -> None:
        for argument in node.all_input_nodes:
            value = self.values[argument.name]
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, Value):
                    self.couplings.fix_value(one, "the model's output")

    def _call(self, node: fx.Node) -> NodeValue:
        example = node.meta.get("val")
        if example is None:
            return None
        if not isinstance(example, (Tensor, tuple, list)):
            return _number(example)
        args = _map(node.args, self.values)
        kwargs = _map(node.kwargs, self.values)
        if operator_name(node.target) == "getitem":
            return args[0][args[1]]
        tensors = [example] if isinstance(example, Tensor) else list(example)
        output = Output(
            tuple(shape_of(t) if isinstance(t, Tensor) else () for t in tensors),
            tuple(isinstance(t, Tensor) and t.is_floating_point() for t in tensors),
        )
        if _has_unknown_size(tensors):
            why = "the size of a result depends on the input's values"
            inputs = [*args, *kwargs.values()]
            values = unlabelled(self.couplings, output, *inputs, why=why)
        else:
            values = self._apply(node, output, args, kwargs)
        if not isinstance(example, Tensor):
            return values
        return replace(values[0], data=self._known_data(node, example))

    def _apply(self, node: fx.Node, output: Output, args: Any, kwargs: Any) -> list[Value]:
        """Run the operator's rule; whatever it does not understand is fixed, with the reason."""
        name = operator_name(node.target)
        function = _find_rule(name, node.target)
        inputs = [*args, *kwargs.values()]
        if function is None:
            return unlabelled(self.couplings, output, *inputs, why=f"no rule for {name}")
        try:
            result = function(self.couplings, output, *args, **kwargs)
        except (NotImplementedError, ValueError, LookupError, TypeError, AttributeError):
            why = f"the rule for {name} does not cover this use"
            return unlabelled(self.couplings, output, *inputs, why=why)
        values = result if isinstance(result, list) else [result]
        if tuple(value.shape for value in values) != output.shapes:
            for value in values:
                self.couplings.fix_value(value, f"the rule for {name} gave another shape")
            return [Value(shape) for shape in output.shapes]
        return values

    def _known_data(self, node: fx.Node, example: Tensor) -> Tensor | None:
        """Compute an integer tensor that depends on nothing but constants."""
        if example.is_floating_point() or example.numel() > _MAX_KNOWN_ELEMENTS:
            return None
        known: dict[str, Tensor] = {}
        for argument in node.all_input_nodes:
            value = self.values[argument.name]
            data = value.data if isinstance(value, Value) else None
            if data is None:
                return None
            known[argument.name] = data
        target = cast(Any, node.target)
        return target(*_map(node.args, known), **_map(node.kwargs, known))


def _layout(tensor: Tensor) -> tuple[object, ...]:
    return tuple(tensor.shape), tensor.stride(), tensor.storage_offset()


def _map(argument: Any, results: Mapping[str, Any]) -> Any:
    """Replace the nodes in a nested argument by their results."""
    return fx.map_arg(argument, lambda node: results[node.name])


def _has_unknown_size(tensors: Sequence[Any]) -> bool:
    sizes = [size for tensor in tensors if isinstance(tensor, Tensor) for size in tensor.shape]
    return any(not isinstance(size, int) and size.node.hint is None for size in sizes)


def _find_rule(name: str, target: Any) -> Rule | None:
    if name in RULES:
        return RULES[name]
    tags = getattr(target, "tags", ())
    if "::" in name:
        return None
    if torch.Tag.pointwise in tags:
        return _tagged_pointwise
    return reduction if torch.Tag.reduction in tags else None


def _tagged_pointwise(couplings: Couplings, output: Output, *args: Any, **kwargs: Any) -> Value:
    return pointwise(couplings, output, *args, *kwargs.values())


def _number(example: Any) -> int | float | bool:
    if isinstance(example, torch.SymInt):
        return size_hint(example)
    if isinstance(example, (torch.SymBool, torch.SymFloat)):
        hint = cast(float, example.node.hint or 0)
        return float(hint) if isinstance(example, torch.SymFloat) else bool(hint)
    return example


__all__ = ["Slot", "Trace", "operator_name", "shape_of", "size_hint", "trace"]
