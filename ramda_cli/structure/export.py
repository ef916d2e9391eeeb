"""From a module to its ATen graph."""

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from ramda_cli.errors import StructureError, first_line
from ramda_cli.tasks.inputs import ExampleInputs, split_inputs


def export_graph(
    module: nn.Module,
    example_inputs: ExampleInputs,
    *,
    fixed: bool = False,
    free_length: bool = False,
) -> ExportedProgram:
    """Export the module in evaluation mode, decomposed, with a free batch size where it allows one.

    Dimension 0 of every input is taken for the batch. A batch of one is doubled, because the
    exporter would otherwise treat its size as a constant. With `fixed` all sizes are those of the
    example; with `free_length` dimension 1 of token ids and masks is free too.

    Raises:
        StructureError: the module cannot be exported, or keeps state between calls.
    """
    args, kwargs = split_inputs(example_inputs)
    if not fixed:
        args, kwargs = pytree.tree_map(_at_least_two, (args, kwargs))
    return export_call(module, args, kwargs, fixed=fixed, free_length=free_length)


def export_call(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    fixed: bool = False,
    free_length: bool = False,
) -> ExportedProgram:
    """Export the module for these very inputs; see `export_graph`.

    Raises:
        StructureError: the module cannot be exported, or keeps state between calls.
    """
    free = _free_batch_and_length if free_length else _free_batch
    dynamic = pytree.tree_map(free, (args, kwargs))
    with evaluation_mode(module), torch.no_grad():
        program = None if fixed else _export_free(module, args, kwargs, dynamic)
        program = program or _export_fixed(module, args, kwargs)
        decomposed = program.run_decompositions({})
    mutated = list(decomposed.graph_signature.buffers_to_mutate.values())
    if mutated:
        raise StructureError(
            f"{type(module).__name__} updates {mutated[0]} in evaluation mode",
            hint="a model must compute its outputs from its inputs and parameters alone",
        )
    return decomposed


def smallest_example(program: ExportedProgram) -> ExampleInputs:
    """Return the inputs a program was exported for, as few as a free batch allows: two."""
    args, kwargs = program.example_inputs or ((), {})
    inputs: ExampleInputs = dict(kwargs) if kwargs and not args else tuple(args)
    return pytree.tree_map(_first_two, inputs) if has_free_batch(program) else inputs


def has_free_batch(program: ExportedProgram) -> bool:
    """Tell whether dimension 0 of every input is a free size, which may be two."""
    names = set(program.graph_signature.user_inputs)
    values = [node.meta["val"] for node in program.graph.nodes if node.name in names]
    sizes = [value.shape[0] for value in values if isinstance(value, Tensor) and value.ndim > 0]
    return bool(sizes) and all(_may_be_two(program, size) for size in sizes)


def _may_be_two(program: ExportedProgram, size: int | torch.SymInt) -> bool:
    if isinstance(size, int):
        return False
    allowed = program.range_constraints.get(size.node.expr)
    return allowed is not None and bool(allowed.lower <= 2)


def with_batch(inputs: ExampleInputs, size: int) -> ExampleInputs:
    """Return as many examples as `size`, the given ones over and over."""

    def resize(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.ndim == 0:
            return leaf
        return leaf[torch.arange(size) % leaf.shape[0]]

    return pytree.tree_map(resize, dict(inputs) if isinstance(inputs, Mapping) else inputs)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Run a block in evaluation mode, then restore the mode of every submodule."""
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for child, mode in modes.items():
            child.training = mode


def _export_free(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic: Any
) -> ExportedProgram | None:
    try:
        return _export(module, args, kwargs, (dynamic[0], dynamic[1]))
    except (RuntimeError, ValueError, TypeError, AssertionError):
        return None


def _export_fixed(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ExportedProgram:
    try:
        return _export(module, args, kwargs, None)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise StructureError(
            f"{type(module).__name__} cannot be exported by torch.export: {first_line(error)}",
            hint="replace data-dependent control flow in its forward; "
            "RAMDA_DEBUG=1 shows where the export stops",
        ) from error


def _export(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic: Any
) -> ExportedProgram:
    shapes = None if dynamic is None else _by_name(module, *dynamic)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # for one, every LSTM assigns its list of weights
        return torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)


def _by_name(
    module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, Any]:
    """Return dynamic shapes by the names of forward's parameters; `*inputs` takes the rest."""
    shapes: dict[str, Any] = {}
    for name, parameter in inspect.signature(module.forward).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            shapes[name] = positional
            break
        if not positional:
            break
        shapes[name], positional = positional[0], positional[1:]
    return {**shapes, **named}


def _at_least_two(value: Any) -> Any:
    if isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == 1:
        return torch.cat([value, value])
    return value


def _first_two(value: Any) -> Any:
    return value[:2] if isinstance(value, Tensor) and value.ndim > 0 else value


def _free_batch(value: Any) -> Any:
    return {0: Dim.AUTO} if isinstance(value, Tensor) and value.ndim > 0 else None


def _free_batch_and_length(value: Any) -> Any:
    if isinstance(value, Tensor) and value.ndim == 2 and not value.is_floating_point():
        return {0: Dim.AUTO, 1: Dim.AUTO}
    return _free_batch(value)
