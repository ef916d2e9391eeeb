"""Take zero channels out of a model."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ramda_cli.models.loaded import ModelSource
from ramda_cli.models.sources import infer_source
from ramda_cli.structure import Structure, Support
from ramda_cli.structure.discover import ChannelGraph
from ramda_cli.structure.export import evaluation_mode, smallest_example
from ramda_cli.structure.float64 import float64_throughout
from ramda_cli.structure.labels import Value
from ramda_cli.structure.support import named_tensors
from ramda_cli.structure.trace import module_paths, operator_name
from ramda_cli.surgery.kept import KeptPositions
from ramda_cli.surgery.patches import Patches, resize_module_
from ramda_cli.surgery.plan import Ranges, RemovalPlan, to_ranges
from ramda_cli.surgery.program import GraphModel, GraphProgram
from ramda_cli.surgery.rewrite import rewrite_program
from ramda_cli.surgery.submodules import (
    Masks,
    failing_module,
    replace_given_,
    replace_submodules_,
)

_TOLERANCE = 1e-9
"""Relative, in float64: the same as the proof's."""

_MOST_CLASSES = 16
"""Classes of submodules that may run as graphs; with more, the whole model does."""


@torch.no_grad()
def remove(
    model: nn.Module,
    structure: Structure,
    support: Support,
    *,
    source: ModelSource | None = None,
) -> tuple[nn.Module, RemovalPlan]:
    """Return a copy of the model without its zero channels, and the plan that says what went.

    The model's own class is kept where all sizes that its code reads are known, and a submodule
    with other sizes runs a graph of its own: the outputs on the example inputs must then equal the
    original's in float64. Otherwise the smaller model runs the rewritten graph of the whole.

    Args:
        model: left as it is.
        structure: discovered on it.
        support: from `identify`.
        source: how the dense model is built, so that a file can be reloaded as its class; a timm
            model is recognised when this is not given.

    Raises:
        ValueError: the structure was not discovered on a graph.
    """
    if structure.graph is None:
        raise ValueError("remove needs the structure of discover(), not single-tensor groups")
    graph = structure.graph
    kept = KeptPositions.of_channels(graph, support.removable)
    rewritten = rewrite_program(model, graph.trace, kept)
    native = _native(model, graph, kept, rewritten)
    held = {} if native is None else dict(native.module.state_dict(keep_vars=True))
    tensors = {**dict(rewritten.named_parameters()), **dict(rewritten.named_buffers())}
    plan = RemovalPlan(
        removed=support.removable,
        channels={group.name: group.channels for group in structure.groups},
        kept=_kept_ranges(graph, kept),
        layout="graph" if native is None else "native",
        patches={} if native is None else native.patches,
        source=source or (None if native is None else infer_source(model)),
        program=rewritten.program,
        constants={name: t for name, t in tensors.items() if name not in held},
        aliases=graph.trace.aliases,
        submodules={} if native is None else native.submodules,
        example=smallest_example(graph.trace.program),
    )
    if native is not None:
        return native.module, plan
    return rewritten.train(model.training), plan


@dataclass(frozen=True, eq=False)
class _Native:
    """The model's own class with smaller tensors, and what it took."""

    module: nn.Module
    patches: Patches
    submodules: dict[str, GraphProgram]


def _native(
    model: nn.Module, graph: ChannelGraph, kept: KeptPositions, rewritten: GraphModel
) -> _Native | None:
    """Shrink a copy in its own class, or return None where that does not compute the same."""
    shared = {id(tensor): tensor for tensor in named_tensors(model).values()}
    native = copy.deepcopy(model, shared)
    patches = resize_module_(native, rewritten, graph.trace.aliases)
    example = graph.trace.program.example_inputs
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    args, kwargs = pytree.tree_map(lambda leaf: _move(leaf, device), (example[0], dict(example[1])))
    wide_args, wide_kwargs = pytree.tree_map(_widen, (args, kwargs))

    def run_wide(module: nn.Module) -> list[Tensor]:
        return _outputs(module, wide_args, wide_kwargs)

    submodules: dict[str, GraphProgram] = {}
    masks = _masks(graph, kept)
    rescaling = _rescaling_modules(graph, kept)
    if rescaling:
        given = replace_given_(
            native, model, rescaling, masks, lambda module: module(*args, **kwargs)
        )
        if not given:
            return None
        submodules |= given
    for _ in range(_MOST_CLASSES):
        failure = failing_module(_in_float64(native), run_wide)
        if failure is None:
            break
        replaced = replace_submodules_(
            native, model, failure, masks, lambda module: module(*args, **kwargs)
        )
        if not replaced:
            return None
        submodules |= replaced
    else:
        return None
    if not _equal(run_wide(_in_float64(model)), run_wide(_in_float64(native))):
        return None
    patches = {p: a for p, a in patches.items() if not any(_inside(p, q) for q in submodules)}
    submodules = {
        p: program for p, program in submodules.items()
        if not any(p != q and _inside(p, q) for q in submodules)
    }  # fmt: skip
    return _Native(native, patches, submodules)


def _rescaling_modules(graph: ChannelGraph, kept: KeptPositions) -> list[str]:
    """Return the modules that average over a width which shrinks: their graph scales the mean."""
    paths = module_paths(graph.trace.program.graph)
    found = []
    for node in graph.trace.program.graph.nodes:
        if node.op != "call_function" or operator_name(node.target) not in ("mean", "rms_norm"):
            continue
        x = graph.trace.values[node.args[0].name]
        dims = [-1] if operator_name(node.target) == "rms_norm" else node.args[1:2] or [()]
        if isinstance(x, Value) and any(
            kept.masks(x)[dim] is not None for dim in pytree.tree_leaves(dims)
        ):
            found.append(paths.get(node.name, ""))
    return list(dict.fromkeys(found))


def _inside(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other}.")


def _in_float64(model: nn.Module) -> nn.Module:
    is_wide = all(t.dtype == torch.float64 for t in model.parameters())
    return model if is_wide else copy.deepcopy(model).double()


def _outputs(wide: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> list[Tensor]:
    with evaluation_mode(wide), float64_throughout():
        outputs = wide(*args, **kwargs)
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]


def _move(leaf: Any, device: torch.device) -> Any:
    return leaf.to(device) if isinstance(leaf, Tensor) else leaf


def _widen(leaf: Any) -> Any:
    return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


def _equal(expected: list[Tensor], actual: list[Tensor]) -> bool:
    if [t.shape for t in expected] != [t.shape for t in actual]:
        return False
    return all(
        torch.equal(one, other) or (one.is_floating_point() and _close(one, other))
        for one, other in zip(expected, actual, strict=True)
    )


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= _TOLERANCE * one.abs().max().clamp_min(1.0))


def _masks(graph: ChannelGraph, kept: KeptPositions) -> dict[str, Masks]:
    """Return the kept positions of each tensor that shrinks, under every name it has."""
    masks = {name: kept.masks(value) for name, value in graph.trace.parameters.items()}
    masks |= {name: masks[first] for name, first in graph.trace.aliases.items()}
    return {name: each for name, each in masks.items() if any(m is not None for m in each)}


def _kept_ranges(graph: ChannelGraph, kept: KeptPositions) -> dict[str, dict[int, Ranges]]:
    ranges: dict[str, dict[int, Ranges]] = {}
    for name, value in graph.trace.parameters.items():
        dims = {
            dim: to_ranges(np.flatnonzero(mask).tolist())
            for dim, mask in enumerate(kept.masks(value))
            if mask is not None
        }
        if dims:
            ranges[name] = dims
    return ranges
