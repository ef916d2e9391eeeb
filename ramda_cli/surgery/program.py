"""A graph of ATen operations that runs as a module: a model without its Python code."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class Reference:
    """The result of an earlier operation, or an input or tensor, by name."""

    name: str


@dataclass(frozen=True)
class Operation:
    """One call.

    Attributes:
        name: of its result.
        target: an ATen operator or a plain operator on numbers.
        args, kwargs: nested, with `Reference` where a result is used.
    """

    name: str
    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class GraphProgram:
    """A function as a list of operations.

    Attributes:
        inputs: names of the inputs in order.
        tensors: result name to the qualified name of the parameter or buffer.
        operations: in order of execution.
        output: nested `Reference`s.
        keywords: the last arguments, when they are given by keyword, in order.
    """

    inputs: tuple[str, ...]
    tensors: Mapping[str, str]
    operations: tuple[Operation, ...]
    output: Any
    keywords: tuple[str, ...] = ()


class GraphModel(nn.Module):
    """A module that runs a `GraphProgram`.

    It computes what the model computed in evaluation mode. In training mode BatchNorm uses the
    batch and updates its statistics, as ever; dropout is gone. Parameters keep their names.

    Attributes:
        batch_norm_momentum: of all running statistics, in place of each one's own; None leaves
            them theirs.
        batch_norm_frozen: whether the statistics are used as they are in training mode too.

    Args:
        program: what to run.
        parameters, buffers: by qualified name.
    """

    batch_norm_momentum: float | None = None
    batch_norm_frozen: bool = False

    def __init__(
        self,
        program: GraphProgram,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
    ) -> None:
        super().__init__()
        self.program = program
        for name, tensor in parameters.items():
            owner, leaf = self._owner(name)
            owner.register_parameter(leaf, nn.Parameter(tensor, tensor.requires_grad))
        for name, tensor in buffers.items():
            owner, leaf = self._owner(name)
            owner.register_buffer(leaf, tensor)
        self._last_uses = _last_uses(program)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the operations, forgetting each result after its last use."""
        return self.run(args, kwargs)

    def run(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        after: Callable[[str], None] | None = None,
    ) -> Any:
        """Run the operations; `after` is told the name of each result once it is there."""
        program = self.program
        if set(kwargs) - set(program.keywords):
            raise TypeError(
                f"the model takes keywords {list(program.keywords)}, got {list(kwargs)}"
            )
        ordered = [kwargs[name] for name in program.keywords if name in kwargs]
        inputs = pytree.tree_leaves((args, ordered))
        if len(inputs) != len(program.inputs):
            raise TypeError(f"the model takes {len(program.inputs)} inputs, got {len(inputs)}")
        results: dict[str, Any] = dict(zip(program.inputs, inputs, strict=True))
        for name, qualified in program.tensors.items():
            results[name] = self._tensor(qualified)
        device = _device_of(inputs)
        for operation, finished in zip(program.operations, self._last_uses, strict=True):
            positional = _resolve(operation.args, results, device)
            named = _resolve(operation.kwargs, results, device)
            if self._trains(operation):
                momentum = self.batch_norm_momentum
                results[operation.name] = _batch_norm_training(*positional, override=momentum)
            else:
                results[operation.name] = operation.target(*positional, **named)
            if after is not None:
                after(operation.name)
            for name in finished:
                del results[name]
        return _resolve(program.output, results, device)

    def share_tensors_(self, tensors: Mapping[str, Tensor]) -> None:
        """Take these tensors for those of the same names, in place."""
        for name, tensor in tensors.items():
            path, _, leaf = name.rpartition(".")
            owner = self.get_submodule(path) if self._has(path) else None
            if owner is not None and leaf in owner._parameters:
                owner._parameters[leaf] = cast(nn.Parameter, tensor)
            elif owner is not None and leaf in owner._buffers:
                owner._buffers[leaf] = tensor

    def _has(self, path: str) -> bool:
        return not path or path in dict(self.named_modules())

    def _trains(self, operation: Operation) -> bool:
        return self.training and operation.target is _BATCH_NORM and not self.batch_norm_frozen

    @property
    def has_batch_norm(self) -> bool:
        """Whether anything here keeps running statistics."""
        return any(operation.target is _BATCH_NORM for operation in self.program.operations)

    @torch.no_grad()
    def reset_batch_norm_(self) -> None:
        """Start all running statistics anew: mean 0 and variance 1."""
        for operation in self.program.operations:
            if operation.target is _BATCH_NORM:
                mean, variance = (self.program.tensors[arg.name] for arg in operation.args[3:5])
                self._tensor(mean).zero_()
                self._tensor(variance).fill_(1.0)

    def _owner(self, qualified: str) -> tuple[nn.Module, str]:
        path, _, leaf = qualified.rpartition(".")
        owner: nn.Module = self
        for part in path.split(".") if path else ():
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        return owner, leaf

    def _tensor(self, qualified: str) -> Tensor:
        path, _, leaf = qualified.rpartition(".")
        return getattr(self.get_submodule(path), leaf)


_BATCH_NORM = torch.ops.aten._native_batch_norm_legit_no_training.default


def _batch_norm_training(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor,
    momentum: float, eps: float, *, override: float | None,
) -> tuple[Tensor]:  # fmt: skip
    """Normalise by the batch, and update the statistics."""
    factor = momentum if override is None else override
    return (F.batch_norm(x, mean, variance, weight, bias, True, factor, eps),)


def _device_of(inputs: Sequence[Any]) -> torch.device | None:
    return next((one.device for one in inputs if isinstance(one, Tensor)), None)


def operation_of(node: fx.Node) -> Operation:
    """Translate one call of an fx graph."""
    return Operation(node.name, node.target, to_references(node.args), to_references(node.kwargs))


def to_references(argument: Any) -> Any:
    """Replace fx nodes in a nested argument by references to their names.

    The branches of a higher-order operation are nodes too; they stand for themselves.
    """
    if isinstance(argument, fx.Node) and argument.op == "get_attr":
        return getattr(argument.graph.owning_module, str(argument.target))
    if isinstance(argument, fx.Node):
        return Reference(argument.name)
    if isinstance(argument, (list, tuple)):
        return type(argument)(to_references(item) for item in argument)
    if isinstance(argument, Mapping):
        return {key: to_references(item) for key, item in argument.items()}
    return argument


def references(argument: Any) -> list[str]:
    """Return the names that a nested argument refers to."""
    if isinstance(argument, Reference):
        return [argument.name]
    if isinstance(argument, (list, tuple)):
        return [name for item in argument for name in references(item)]
    if isinstance(argument, Mapping):
        return [name for item in argument.values() for name in references(item)]
    return []


def _resolve(argument: Any, results: Mapping[str, Any], device: torch.device | None) -> Any:
    """Replace references by results; what was made on the device of the export follows `device`."""
    if isinstance(argument, Reference):
        return results[argument.name]
    if isinstance(argument, (list, tuple)):
        return type(argument)(_resolve(item, results, device) for item in argument)
    if isinstance(argument, Mapping):
        return {key: _resolve(item, results, device) for key, item in argument.items()}
    return device if isinstance(argument, torch.device) and device is not None else argument


def _last_uses(program: GraphProgram) -> tuple[tuple[str, ...], ...]:
    """Return, for each operation, the results that nothing after it needs."""
    needed = set(references(program.output))
    finished: list[tuple[str, ...]] = []
    for operation in reversed(program.operations):
        used = set(references(operation.args)) | set(references(operation.kwargs))
        used.add(operation.name)
        finished.append(tuple(sorted(used - needed)))
        needed |= used
    return tuple(reversed(finished))


def drop_unused(operations: Sequence[Operation], output: Any) -> tuple[Operation, ...]:
    """Return the operations that the output needs, in order."""
    needed = set(references(output))
    kept: list[Operation] = []
    for operation in reversed(operations):
        if operation.name in needed:
            kept.append(operation)
            needed |= set(references(operation.args)) | set(references(operation.kwargs))
    return tuple(reversed(kept))
