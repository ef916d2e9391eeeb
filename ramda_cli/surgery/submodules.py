"""Shrink single submodules whose code keeps a size that the table of sizes does not know.

Such a submodule (an attention that reshapes to the width of its input, say) is exported alone, on
the inputs that it was called with, and its graph rewritten; the model around it stays as it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from ramda_cli.errors import StructureError
from ramda_cli.structure.export import evaluation_mode, export_call
from ramda_cli.structure.labels import Mask, Value
from ramda_cli.structure.solve import Classes, solve
from ramda_cli.structure.support import named_tensors
from ramda_cli.structure.trace import Trace, trace
from ramda_cli.surgery.kept import KeptPositions
from ramda_cli.surgery.patches import set_module_
from ramda_cli.surgery.program import GraphModel, GraphProgram
from ramda_cli.surgery.rewrite import rewrite_program

Masks = tuple[Mask | None, ...]
Run = Callable[[nn.Module], object]
MISFIT = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError)
"""What a module raises that runs with sizes it does not know of."""


@dataclass(frozen=True)
class Failure:
    """A module that raised.

    Attributes:
        path: of the innermost such module.
        shapes: of the tensors that it was called with.
    """

    path: str
    shapes: list[tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class _Call:
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Smaller:
    """A submodule's rewritten graph, and the shapes of the tensors that it takes."""

    graph: GraphModel
    shapes: list[tuple[int, ...]]


def failing_module(model: nn.Module, run: Run) -> Failure | None:
    """Return the innermost module that raises when the model runs, None if nothing does."""
    running: list[Failure] = []
    handles: list[RemovableHandle] = []
    for path, module in model.named_modules():
        enter = _entering(running, path)
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(_leaving(running)))
    try:
        run(model)
    except MISFIT:
        return running[-1] if running else Failure("", [])
    finally:
        for handle in handles:
            handle.remove()
    return None


def replace_submodules_(
    native: nn.Module,
    model: nn.Module,
    failure: Failure,
    masks: Mapping[str, Masks],
    run: Run,
) -> dict[str, GraphProgram]:
    """Replace the submodule at fault, and all others of its class that shrink, by graphs, in place.

    At fault is a submodule that raises although what it takes has the right shapes; otherwise the
    one around it is looked at, and so it is where a submodule cannot be shrunk alone.

    Args:
        native: the copy with smaller tensors.
        model: the dense model.
        failure: the innermost submodule that raised.
        masks: kept positions of each tensor that shrinks, by its name in the model.
        run: calls a model on the example inputs.

    Returns:
        The graphs by path; empty if nothing short of the whole model could be replaced.
    """
    path = failure.path
    while path:
        culprit = model.get_submodule(path)
        if any(True for _ in culprit.children()) and not _is_graph(native, path):
            calls = _record_calls(model, _alike(model, path, masks), run)
            smaller = _shrink(model, path, calls.get(path), masks)
            fits = path != failure.path or (smaller and smaller.shapes == failure.shapes)
            if smaller is not None and fits:
                return _replace(native, model, {path: smaller}, calls, masks)
        path = path.rpartition(".")[0]
    return {}


def replace_given_(
    native: nn.Module,
    model: nn.Module,
    paths: list[str],
    masks: Mapping[str, Masks],
    run: Run,
) -> dict[str, GraphProgram]:
    """Replace these submodules by graphs, in place; by none if one cannot be shrunk alone."""
    if "" in paths:
        return {}
    calls = _record_calls(model, paths, run)
    smaller = {path: _shrink(model, path, calls.get(path), masks) for path in paths}
    known = {path: each for path, each in smaller.items() if each is not None}
    if len(known) < len(paths):
        return {}
    return _replace(native, model, known, calls, masks)


def _alike(model: nn.Module, path: str, masks: Mapping[str, Masks]) -> list[str]:
    """Return a submodule, and all of its class that shrink."""
    kind = type(model.get_submodule(path))
    alike = [
        name
        for name, module in model.named_modules()
        if type(module) is kind and any(tensor.startswith(f"{name}.") for tensor in masks)
    ]
    return list(dict.fromkeys([path, *alike]))


def _is_graph(model: nn.Module, path: str) -> bool:
    """Tell whether a submodule is a graph or lies inside one, where it holds tensors at most."""
    inside = model
    for name in path.split("."):
        inside = inside._modules.get(name) or nn.Module()
        if isinstance(inside, GraphModel):
            return True
    return False


def _replace(
    native: nn.Module,
    model: nn.Module,
    known: dict[str, _Smaller],
    calls: Mapping[str, _Call],
    masks: Mapping[str, Masks],
) -> dict[str, GraphProgram]:
    """Put graphs in the place of all submodules whose calls are known."""
    programs = {}
    for name, call in calls.items():
        smaller = known.get(name) or _shrink(model, name, call, masks)
        if smaller is not None:
            programs[name] = smaller.graph.program
            _put(native, name, smaller.graph)
    return programs


def _shrink(
    model: nn.Module, path: str, call: _Call | None, masks: Mapping[str, Masks]
) -> _Smaller | None:
    """Return a submodule's rewritten graph with the kept parts of its tensors."""
    if call is None:
        return None
    module = model.get_submodule(path)
    own = {
        name.removeprefix(f"{path}."): kept
        for name, kept in masks.items()
        if name.startswith(f"{path}.")
    }
    try:
        traced = trace(export_call(module, call.args, call.kwargs), boundary=True)
    except StructureError:
        return None
    classes = solve(traced)
    removed = _removed_classes(traced, classes, own)
    if removed is None:
        return None
    kept_positions = KeptPositions(classes, removed)
    for name, value in traced.parameters.items():
        if _masks_differ(kept_positions.masks(value), own.get(name, (None,) * value.ndim)):
            return None
    shapes = [
        kept_positions.shape(taken)
        for node in traced.program.graph.nodes
        if node.name in traced.program.graph_signature.user_inputs
        and isinstance(taken := traced.values[node.name], Value)
    ]
    return _Smaller(rewrite_program(module, traced, kept_positions), shapes)


def _removed_classes(traced: Trace, classes: Classes, masks: Mapping[str, Masks]) -> Mask | None:
    """Return which classes go, None where one that must stay here would have to."""
    removed = np.zeros(classes.count + 1, dtype=bool)
    for name, value in traced.parameters.items():
        for layer in value.layers:
            (dim,) = layer.support
            mask = masks.get(name, (None,) * value.ndim)[dim]
            if mask is None:
                continue
            gone = classes.of(layer.labels).ravel()[~mask]
            if (gone < 0).any():
                return None
            removed[gone] = True
    return removed


def _masks_differ(masks: Masks, others: Masks) -> bool:
    return any(
        (one is None) != (other is None) or not np.array_equal(one, other)  # type: ignore[arg-type]
        for one, other in zip(masks, others, strict=True)
    )


def _record_calls(model: nn.Module, paths: list[str], run: Run) -> dict[str, _Call]:
    """Run the model and return the first call of each of these submodules."""
    calls: dict[str, _Call] = {}

    def recording(path: str) -> Callable[..., None]:
        def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if path not in calls:
                copied = pytree.tree_map(_detached, (args, dict(kwargs)))
                calls[path] = _Call(*copied)

        return record

    handles = [
        model.get_submodule(path).register_forward_pre_hook(recording(path), with_kwargs=True)
        for path in dict.fromkeys(paths)
    ]
    try:
        with evaluation_mode(model), torch.no_grad():
            run(model)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _detached(leaf: Any) -> Any:
    return leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf


def _put(model: nn.Module, path: str, module: GraphModel) -> None:
    """Replace a submodule under every name that it has, keeping its tensors and its mode."""
    old = model.get_submodule(path)
    tensors = named_tensors(old)
    module.share_tensors_(tensors)
    module.train(old.training)
    set_module_(model, old, module)


def _entering(running: list[Failure], path: str) -> Callable[..., None]:
    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        leaves = pytree.tree_leaves((args, kwargs))
        shapes = [tuple(leaf.shape) for leaf in leaves if isinstance(leaf, torch.Tensor)]
        running.append(Failure(path, shapes))

    return enter


def _leaving(running: list[Failure]) -> Callable[..., None]:
    def leave(module: nn.Module, args: Any, output: Any) -> None:
        running.pop()

    return leave
