"""`model.safetensors`: tensors, and in the header everything needed to build the model again.

Metadata: `format=pt`, `ramda_format=1`, and `ramda`, a JSON document with the keys

    layout      `native` builds `source` and resizes it; `graph` runs `program`
    source      kind, name and constructor arguments of the dense model, when known
    patches     module path -> attribute -> size (native)
    program     the graph (graph)
    buffers     names of the tensors that are buffers (graph)
    aliases     tied tensors: name -> the name it shares with
    plan        removed and kept positions as half-open ranges
    details     what the caller adds: task, labels, preprocessing
    report      the report of the run

Loading needs no base weights, no pickle and no code but this package and the model's library.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ramda_cli.errors import FileFormatError, ModelError, OutputError
from ramda_cli.export.program_json import program_from_json, program_to_json
from ramda_cli.file_header import FORMAT, read_header
from ramda_cli.models.building import build_module
from ramda_cli.models.loaded import ModelSource
from ramda_cli.structure.support import named_tensors
from ramda_cli.surgery import GraphModel, RemovalPlan
from ramda_cli.surgery.patches import apply_patches_, set_tensor_


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
    """
    source = plan.source
    native = plan.layout == "native" and source is not None and source.kind != "file"
    tensors = _native_tensors(smaller) if native else _graph_tensors(smaller, plan)
    aliases = _drop_aliases(tensors, plan.aliases)
    document = {
        "layout": "native" if native else "graph",
        "source": None if source is None else _source_to_json(source),
        "patches": plan.patches if native else {},
        "program": None if native else program_to_json(plan.program),
        "buffers": [] if native else sorted(set(tensors) - _parameter_names(smaller)),
        "aliases": aliases,
        "plan": plan.to_json(),
        "details": dict(details or {}),
        "report": None if report is None else dict(report),
    }
    metadata = {
        "format": "pt",
        "ramda_format": FORMAT,
        "ramda": json.dumps(document, allow_nan=False),
    }
    _write_whole(tensors, Path(path), metadata)
    return document["layout"]


def load(path: str | os.PathLike[str]) -> nn.Module:
    """Rebuild a smaller model from its file, in eval mode on the CPU.

    Raises:
        FileFormatError: the file is damaged, of another version, or does not fit its own plan.
        ModelError: its architecture is not known to this installation.
    """
    path = Path(path)
    document = read_header(path)
    tensors = read_tensors(path)
    for name, target in _mapping(document, "aliases").items():
        if target not in tensors:
            raise _does_not_fit(path, f"{name} shares {target}, which is missing")
        tensors[name] = tensors[target]
    if document.get("layout") == "native":
        return _load_native(path, document, tensors).eval()
    if document.get("layout") == "graph":
        return _load_graph(path, document, tensors).eval()
    raise _does_not_fit(path, f"its layout is {document.get('layout')!r}")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file onto the CPU."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _does_not_fit(path, str(error)) from error


def _native_tensors(smaller: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in smaller.state_dict().items()}


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


def _write_whole(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    partial = path.with_name(path.name + ".partial")
    stored = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(stored, partial, metadata=metadata)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write {path}: {error}", hint="free some space or choose another directory"
        ) from error


def _load_native(path: Path, document: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    source = _mapping(document, "source")
    kind, name, arguments = (source.get(key) for key in ("kind", "name", "arguments"))
    if kind not in ("timm", "package") or not isinstance(name, str):
        raise _does_not_fit(path, f"its source is {kind!r} {name!r}")
    if not isinstance(arguments, dict):
        raise _does_not_fit(path, "its constructor arguments are missing")
    try:
        module = build_module(ModelSource(kind, name, arguments))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{name} cannot be built with the arguments in {path}: {error}",
            hint="install the library versions that the file's report names",
        ) from error
    state = module.state_dict()
    if state.keys() != tensors.keys():
        odd = sorted(state.keys() ^ tensors.keys())[0]
        where = "the file" if odd in state else name
        raise _does_not_fit(path, f"{odd} is missing from {where}")
    shared: dict[int, nn.Parameter] = {}
    for key, dense in state.items():
        tensor = tensors[key]
        smaller_shape = all(new <= old for new, old in zip(tensor.shape, dense.shape, strict=False))
        if tensor.ndim != dense.ndim or not smaller_shape:
            raise _does_not_fit(path, f"{key} has shape {tuple(tensor.shape)}")
        _place(module, key, tensor, shared)
    apply_patches_(module, _mapping(document, "patches"))
    return module


def _place(
    module: nn.Module, key: str, tensor: Tensor, shared: dict[int, nn.Parameter]
) -> None:
    """Put a tensor into a module; tied names share one parameter."""
    owner = module.get_submodule(key.rpartition(".")[0])
    leaf = key.rpartition(".")[2]
    if leaf in owner._parameters:
        parameter = shared.setdefault(
            id(tensor), nn.Parameter(tensor, tensor.is_floating_point())
        )
        owner._parameters[leaf] = parameter
    else:
        set_tensor_(module, key, tensor)


def _load_graph(path: Path, document: dict[str, Any], tensors: dict[str, Tensor]) -> GraphModel:
    program = program_from_json(document.get("program"))
    missing = sorted(set(program.tensors.values()) - set(tensors))
    if missing:
        raise _does_not_fit(path, f"{missing[0]} is missing")
    names = document.get("buffers")
    buffers = set(names) if isinstance(names, list) else set()
    used = {name: tensors[name] for name in dict.fromkeys(program.tensors.values())}
    parameters = {n: t.requires_grad_(t.is_floating_point()) for n, t in used.items()
                  if n not in buffers}  # fmt: skip
    if any(not t.is_floating_point() for t in parameters.values()):
        raise _does_not_fit(path, "an integer tensor is not listed as a buffer")
    return GraphModel(program, parameters, {n: t for n, t in used.items() if n in buffers})


def _mapping(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _does_not_fit(path: Path, what: str) -> FileFormatError:
    return FileFormatError(
        f"{path} cannot be loaded: {what}",
        hint="copy it again, or write it again with `ramda prune`",
    )


__all__ = ["load", "read_tensors", "save"]
