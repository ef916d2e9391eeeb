"""`model.safetensors`: tensors, and in the header everything needed to build the model again.

Metadata: `format=pt`, `ramda_format=1`, and `ramda`, a JSON document with the keys

    layout      `native` builds `source` and resizes it; `graph` runs `program`
    source      kind, name and constructor arguments of the dense model, when known
    patches     module path -> attribute -> size (native)
    program     the graph (graph)
    submodules  module path -> graph that runs in its place (native)
    ranks       module path -> rank of the layer of low rank that is there (native)
    buffers     names of the tensors that are buffers (graph)
    aliases     tied tensors: name -> the name it shares with
    plan        removed and kept positions as half-open ranges
    probe       inputs and the saved model's outputs on them; null where they cannot be held
    details     what the caller adds: task, labels, preprocessing
    report      the report of the run

Loading needs no base weights, no pickle and no code but this package and the model's library.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from ramda_cli.errors import OutputError
from ramda_cli.export.probe import make_probe
from ramda_cli.export.probe_json import probe_to_json
from ramda_cli.export.program_json import program_to_json
from ramda_cli.export.tensor_file import write_tensors
from ramda_cli.file_header import FORMAT
from ramda_cli.models.loaded import ModelSource
from ramda_cli.structure.support import named_tensors
from ramda_cli.surgery import RemovalPlan


def save(
    smaller: nn.Module,
    plan: RemovalPlan,
    path: str | os.PathLike[str],
    *,
    details: Mapping[str, Any] | None = None,
    report: Mapping[str, Any] | None = None,
) -> str:
    """Write a smaller model so that `load` rebuilds it from the file alone.

    The file appears whole or not at all.

    Args:
        smaller: from `remove`, possibly trained further.
        plan: from the same call.
        path: where to write.
        details: JSON-able facts to keep in the header.
        report: the run's report.

    Returns:
        The layout of the file: `native` when it rebuilds the model's own class, else `graph`.

    Raises:
        OutputError: the file cannot be written.
        FileFormatError: the model holds something that the format cannot.
        ValueError: the plan is of a removal that came before the factorization.
    """
    factors = {f"{path}.down.weight" for path in plan.ranks}
    if not factors <= set(plan.program.tensors.values()):
        raise ValueError("the plan was made before layers became two: factorize, then remove")
    source = plan.source
    native = plan.layout == "native" and source is not None and source.kind != "file"
    tensors = _native_tensors(smaller, plan) if native else _graph_tensors(smaller, plan)
    aliases = _drop_aliases(tensors, plan.aliases)
    layout = "native" if native else "graph"
    document = {
        "layout": layout,
        "source": None if source is None else _source_to_json(source),
        "patches": plan.patches if native else {},
        "program": None if native else program_to_json(plan.program),
        "submodules": _programs(plan) if native else {},
        "ranks": dict(plan.ranks) if native else {},
        "buffers": [] if native else sorted(set(tensors) - _parameter_names(smaller)),
        "aliases": aliases,
        "plan": plan.to_json(),
        "probe": _probe(smaller, plan),
        "details": dict(details or {}),
        "report": None if report is None else dict(report),
    }
    metadata = {
        "format": "pt",
        "ramda_format": FORMAT,
        "ramda": json.dumps(document, allow_nan=False),
    }
    _write(tensors, Path(path), metadata)
    return layout


def _native_tensors(smaller: nn.Module, plan: RemovalPlan) -> dict[str, Tensor]:
    """Return the state, and of the buffers outside of it those that a constructor may not redo."""
    tensors = {name: tensor.detach() for name, tensor in smaller.state_dict().items()}
    for name, buffer in smaller.named_buffers():
        if name not in tensors and (buffer.is_floating_point() or name in plan.kept):
            tensors[name] = buffer
    return tensors


def _probe(smaller: nn.Module, plan: RemovalPlan) -> dict[str, Any] | None:
    probe = None if plan.example is None else make_probe(smaller, plan.example)
    return None if probe is None else probe_to_json(probe)


def _programs(plan: RemovalPlan) -> dict[str, Any]:
    return {path: program_to_json(program) for path, program in plan.submodules.items()}


def _graph_tensors(smaller: nn.Module, plan: RemovalPlan) -> dict[str, Tensor]:
    held: dict[str, Tensor] = {**plan.constants, **named_tensors(smaller)}
    return {name: held[name].detach() for name in dict.fromkeys(plan.program.tensors.values())}


def _parameter_names(smaller: nn.Module) -> set[str]:
    return {name for name, _ in smaller.named_parameters(remove_duplicate=False)}


def _drop_aliases(tensors: dict[str, Tensor], aliases: Mapping[str, str]) -> dict[str, str]:
    """Take tied tensors out, in place, and return what they share."""
    dropped = {name: target for name, target in aliases.items() if {name, target} <= set(tensors)}
    for name in dropped:
        del tensors[name]
    return dropped


def _source_to_json(source: ModelSource) -> dict[str, Any]:
    return {"kind": source.kind, "name": source.name, "arguments": dict(source.arguments)}


def _write(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    try:
        write_tensors(tensors, path, metadata=metadata)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"cannot write {path}: {getattr(error, 'strerror', None) or error}",
            hint="free some space or choose another directory",
        ) from error
