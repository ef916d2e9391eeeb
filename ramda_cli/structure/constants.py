"""Which channels are the same number for every input, at every position, where a weight reads them.

The graph is run once in float64 with NaN in the place of its inputs, by `constant_rules`.
"""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from ramda_cli.structure.constant_rules import CONSTANT_RULES
from ramda_cli.structure.export import evaluation_mode
from ramda_cli.structure.float64 import float64_throughout
from ramda_cli.structure.labels import Value
from ramda_cli.structure.support import named_tensors
from ramda_cli.structure.trace import Trace, operator_name, shape_of

_CONV_GROUPS = 6


@dataclass(frozen=True, eq=False)
class Reading:
    """A plain weight that sums over channels in a convolution, linear layer or matrix product.

    Attributes:
        dim: of the weight, along which its input channels are.
        constants: float64, for each position along `dim` the number that is read there for every
            input and at every position of a map; NaN where there is no such number.
    """

    dim: int
    constants: Tensor


@torch.no_grad()
def read_constants(model: nn.Module, traced: Trace) -> dict[str, Reading]:
    """Return what every weight reads, by its name in `traced.parameters`.

    A weight that is also used in another way is left out. One that is read more than once reads a
    constant where it is the same each time.

    Args:
        model: the model that was traced; it is left as it is.
        traced: its graph.
    """
    walk = _Walk(model, traced)
    with evaluation_mode(model), float64_throughout():
        for node in traced.program.graph.nodes:
            walk.visit(node)
    return walk.readings()


class _Walk:
    def __init__(self, model: nn.Module, traced: Trace) -> None:
        self._traced = traced
        self._tensors = {**traced.program.constants, **named_tensors(model)}
        self._results: dict[str, Any] = {}
        self._found: dict[str, list[Reading]] = defaultdict(list)
        self._targets = {
            spec.arg.name: spec.target
            for spec in traced.program.graph_signature.input_specs
            if spec.kind != InputKind.USER_INPUT and hasattr(spec.arg, "name") and spec.target
        }
        self._uses: Counter[str] = Counter()
        last_user: dict[str, str] = {}
        for node in traced.program.graph.nodes:
            for used in node.all_input_nodes:
                last_user[used.name] = node.name
                if used.name in self._targets:
                    self._uses[self._named(self._targets[used.name])] += _count(node, used)
        self._finished: dict[str, list[str]] = defaultdict(list)
        for name, user in last_user.items():
            self._finished[user].append(name)

    def visit(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self._results[node.name] = self._placeholder(node)
        elif node.op == "call_function":
            self._note_reading(node)
            self._results[node.name] = self._call(node)
        elif node.op == "get_attr":
            self._results[node.name] = None
        for name in self._finished[node.name]:
            del self._results[name]

    def readings(self) -> dict[str, Reading]:
        readings = {}
        for name, found in self._found.items():
            first = found[0]
            if len(found) < self._uses[name] or any(one.dim != first.dim for one in found):
                continue
            constants = first.constants.clone()
            for other in found[1:]:
                constants[constants != other.constants] = math.nan
            readings[name] = Reading(first.dim, constants)
        return readings

    def _named(self, target: str) -> str:
        return self._traced.aliases.get(target, target)

    def _placeholder(self, node: fx.Node) -> Any:
        tensor = self._tensors.get(self._targets.get(node.name, ""))
        if isinstance(tensor, Tensor) and tensor.is_floating_point():
            return tensor.detach().to("cpu", torch.float64)
        return self._unknown(node)

    def _unknown(self, node: fx.Node) -> Any:
        """Return NaN for floating-point tensors, and what the trace knows of anything else."""
        example = node.meta.get("val")
        if isinstance(example, (tuple, list)):
            return [_nan(one) if isinstance(one, Tensor) else None for one in example]
        if isinstance(example, Tensor) and example.is_floating_point():
            return _nan(example)
        value = self._traced.values[node.name]
        return value.data if isinstance(value, Value) else value

    def _call(self, node: fx.Node) -> Any:
        rule = CONSTANT_RULES.get(operator_name(node.target))
        if rule is None:
            return self._unknown(node)
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: self._results[n.name])
        try:
            result = rule(node.target, *args, **kwargs)
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError):
            return self._unknown(node)
        return result if _fits(result, node.meta.get("val")) else self._unknown(node)

    def _note_reading(self, node: fx.Node) -> None:
        found = weight_read(node)
        if found is None or _is_grouped(node):
            return
        x, weight, dim = found
        target = self._targets.get(weight.name)
        content = self._results.get(x.name)
        if target is None or not isinstance(content, Tensor):
            return
        rows = content.movedim(1 - weight.meta["val"].ndim, 0).flatten(1)
        same = rows.amax(dim=1) == rows.amin(dim=1)
        constants = rows[:, 0].masked_fill(~same, math.nan)
        self._found[self._named(target)].append(Reading(dim, constants))


def weight_read(node: fx.Node) -> tuple[fx.Node, fx.Node, int] | None:
    """Return what a product reads, by which weight, and along which dimension of that it sums.

    None for what is no convolution, linear layer or product with a matrix.
    """
    name = operator_name(node.target)
    x, weight, *rest = (*node.args, None, None)
    if name.startswith("conv"):
        dim = 0 if "transpose" in name else 1
    elif name == "linear":
        dim = 1
    elif name == "addmm":
        x, weight, dim = weight, rest[0], 0
    elif name in ("mm", "matmul"):
        dim = 0
    else:
        return None
    if not isinstance(x, fx.Node) or not isinstance(weight, fx.Node):
        return None
    # A matrix, or a filter with a dimension more for each of space, that of the input included.
    spatial = x.meta["val"].ndim - 2 if name.startswith("conv") else 0
    return (x, weight, dim) if weight.meta["val"].ndim == 2 + spatial else None


def _is_grouped(node: fx.Node) -> bool:
    convolves = operator_name(node.target).startswith("conv")
    return convolves and node.args[_CONV_GROUPS : _CONV_GROUPS + 1] not in ((), (1,))


def _count(user: fx.Node, node: fx.Node) -> int:
    """Count how often a node is an argument of another."""
    return sum(leaf is node for leaf in pytree.tree_leaves((user.args, dict(user.kwargs))))


def _nan(example: Tensor) -> Tensor:
    return torch.full((), math.nan, dtype=torch.float64).expand(shape_of(example))


def _fits(result: Any, example: Any) -> bool:
    """Tell whether a result is floating-point and of the shape that it has in the graph."""
    if isinstance(example, (tuple, list)):
        return isinstance(result, (tuple, list)) and _fits(result[0], example[0])
    if not isinstance(example, Tensor) or not isinstance(result, Tensor):
        return False
    return example.is_floating_point() and tuple(result.shape) == shape_of(example)
