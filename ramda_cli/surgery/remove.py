"""Take zero channels out of a model."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ramda_cli.models.loaded import ModelSource
from ramda_cli.models.sources import infer_source
from ramda_cli.structure import Structure, Support
from ramda_cli.structure.discover import ChannelGraph
from ramda_cli.structure.export import evaluation_mode
from ramda_cli.structure.support import named_tensors
from ramda_cli.surgery.kept import KeptPositions
from ramda_cli.surgery.patches import Patches, resize_module_
from ramda_cli.surgery.plan import Ranges, RemovalPlan, to_ranges
from ramda_cli.surgery.program import GraphModel
from ramda_cli.surgery.rewrite import rewrite

_TOLERANCE = 1e-9
"""Relative, in float64: the same as the proof's."""


@torch.no_grad()
def remove(
    model: nn.Module,
    structure: Structure,
    support: Support,
    *,
    source: ModelSource | None = None,
) -> tuple[nn.Module, RemovalPlan]:
    """Return a copy of the model without its zero channels, and the plan that says what went.

    The model's own class is kept where all sizes that its code reads are known: its outputs on the
    example inputs must then equal the original's in float64. Otherwise the smaller model runs the
    rewritten graph, which computes what the model computed in evaluation mode.

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
    rewritten = rewrite(model, graph, support.removable)
    native, patches = _native(model, graph, rewritten)
    held = {} if native is None else dict(native.state_dict(keep_vars=True))
    tensors = {**dict(rewritten.named_parameters()), **dict(rewritten.named_buffers())}
    plan = RemovalPlan(
        removed=support.removable,
        channels={group.name: group.channels for group in structure.groups},
        kept=_kept_ranges(graph, support),
        layout="graph" if native is None else "native",
        patches=patches,
        source=source or (None if native is None else infer_source(model)),
        program=rewritten.program,
        constants={name: t for name, t in tensors.items() if name not in held},
        aliases=graph.trace.aliases,
    )
    if native is not None:
        return native, plan
    return rewritten.train(model.training), plan


def _native(
    model: nn.Module, graph: ChannelGraph, rewritten: GraphModel
) -> tuple[nn.Module | None, Patches]:
    """Shrink a copy in its own class, or return None where that does not compute the same."""
    shared = {id(tensor): tensor for tensor in named_tensors(model).values()}
    native = copy.deepcopy(model, shared)
    patches = resize_module_(native, rewritten, graph.trace.aliases)
    args, kwargs = graph.trace.program.example_inputs
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    args, kwargs = pytree.tree_map(lambda leaf: _widen(leaf, device), (args, dict(kwargs)))
    expected = _run_wide(model, args, kwargs)
    try:
        actual = _run_wide(native, args, kwargs)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError):
        # Some size in its code is not in the table.
        return None, {}
    return (native, patches) if _equal(expected, actual) else (None, {})


def _run_wide(model: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> list[Tensor]:
    is_wide = all(t.dtype == torch.float64 for t in model.parameters())
    wide = model if is_wide else copy.deepcopy(model).double()
    with evaluation_mode(wide):
        outputs = wide(*args, **kwargs)
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]


def _widen(leaf: Any, device: torch.device) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    moved = leaf.to(device)
    return moved.double() if moved.is_floating_point() else moved


def _equal(expected: list[Tensor], actual: list[Tensor]) -> bool:
    if [t.shape for t in expected] != [t.shape for t in actual]:
        return False
    return all(
        torch.equal(one, other) or (one.is_floating_point() and _close(one, other))
        for one, other in zip(expected, actual, strict=True)
    )


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= _TOLERANCE * one.abs().max().clamp_min(1.0))


def _kept_ranges(graph: ChannelGraph, support: Support) -> dict[str, dict[int, Ranges]]:
    kept = KeptPositions(graph, support.removable)
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
