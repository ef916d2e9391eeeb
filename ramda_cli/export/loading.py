"""Rebuilding a model from `model.safetensors`, which is untrusted input.

Everything in the file is checked before it is used: the sizes of the dense architecture before it
takes memory, names, shapes and kinds of every tensor, every attribute that is set, every operator.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ramda_cli.errors import MODEL_FAILURES, FileFormatError, ModelError, first_line
from ramda_cli.export.program_json import program_from_json
from ramda_cli.file_header import read_header
from ramda_cli.models.building import build_module
from ramda_cli.models.huggingface import set_generation_
from ramda_cli.models.loaded import ModelSource
from ramda_cli.surgery import GraphModel, GraphProgram
from ramda_cli.surgery.low_rank_layers import low_rank_like, most_rank
from ramda_cli.surgery.patches import apply_patches_, set_module_, set_tensor_

_MOST_REMOVED = 1000
_SMALL_ELEMENTS = 100_000_000
"""A dense model may have 1000 times the elements of the file, and 100 million in any case."""


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
        if not isinstance(target, str) or target not in tensors:
            raise _does_not_fit(path, f"{name} shares {target!r}, which is missing")
        if name in tensors:
            raise _does_not_fit(path, f"{name} shares {target} and is there itself")
        tensors[name] = tensors[target]
    if document.get("layout") == "native":
        module = _load_native(path, document, tensors).eval()
        generation = _mapping(document, "details").get("generation")
        if isinstance(generation, dict):
            try:
                set_generation_(module, generation)
            except ModelError as error:
                raise _does_not_fit(path, str(error)) from error
        return module
    if document.get("layout") == "graph":
        return _load_graph(path, document, tensors).eval()
    raise _does_not_fit(path, f"its layout is {document.get('layout')!r}")


def build_dense(path: str | os.PathLike[str]) -> nn.Module | None:
    """Build the dense architecture of a file with random weights, in eval mode on the CPU.

    None when the file does not know it, or knows only a factory in somebody's Python code.

    Raises:
        FileFormatError, ModelError: as `load`.
    """
    path = Path(path)
    document = read_header(path)
    kind = _mapping(document, "source").get("kind")
    if kind is None or kind == "file":
        return None
    source = _source(path, document)
    with torch.device("meta"):
        _check_size(path, _build(path, source), read_tensors(path))
    return _build(path, source).eval()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file onto the CPU.

    Raises:
        FileFormatError: it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _does_not_fit(path, str(error)) from error


def _load_native(path: Path, document: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    source = _source(path, document)
    described = _mapping(document, "submodules")
    programs = {name: program_from_json(program) for name, program in described.items()}
    with torch.device("meta"):
        dense = _build(path, source)
        _check_size(path, dense, tensors)
        _factorize_(path, dense, document)
        _replace_submodules_(path, dense, programs, tensors)
        _check_native_tensors(path, dense, tensors)
    module = _build(path, source)
    _factorize_(path, module, document)
    _replace_submodules_(path, module, programs, tensors)
    shared: dict[int, nn.Parameter] = {}
    for key in tensors:
        _place(module, key, tensors[key], shared)
    patches = _mapping(document, "patches")
    if not all(isinstance(attributes, dict) for attributes in patches.values()):
        raise _does_not_fit(path, "its patches are not attributes by module")
    apply_patches_(module, patches)
    return module


def _factorize_(path: Path, module: nn.Module, document: dict[str, Any]) -> None:
    """Put layers of low rank in the place of dense ones, in place."""
    for name, rank in _mapping(document, "ranks").items():
        try:
            old = module.get_submodule(name)
        except AttributeError as error:
            raise _does_not_fit(path, f"it factorizes {name}, which is not a submodule") from error
        if type(rank) is not int or rank < 1 or rank > most_rank(old):
            raise _does_not_fit(path, f"it gives {name}, a {type(old).__name__}, the rank {rank!r}")
        layer = low_rank_like(old, rank)
        if layer is not None:
            set_module_(module, old, layer)


def _replace_submodules_(
    path: Path,
    module: nn.Module,
    programs: Mapping[str, GraphProgram],
    tensors: Mapping[str, Tensor],
) -> None:
    """Put graphs in the place of submodules, with the dense tensors of these."""
    for name, program in programs.items():
        try:
            old = module.get_submodule(name)
        except AttributeError as error:
            raise _does_not_fit(path, f"it replaces {name}, which is not a submodule") from error
        parameters, buffers = {}, {}
        own = dict(old.named_parameters(remove_duplicate=False))
        state = dict(old.named_buffers(remove_duplicate=False))
        for tensor in dict.fromkeys(program.tensors.values()):
            if tensor in own:
                parameters[tensor] = own[tensor]
            elif tensor in state:
                buffers[tensor] = state[tensor]
            elif f"{name}.{tensor}" in tensors:
                buffers[tensor] = tensors[f"{name}.{tensor}"]
            else:
                raise _does_not_fit(path, f"{name}.{tensor} is missing")
        set_module_(module, old, GraphModel(program, parameters, buffers))


def _source(path: Path, document: dict[str, Any]) -> ModelSource:
    source = _mapping(document, "source")
    kind, name, arguments = (source.get(key) for key in ("kind", "name", "arguments"))
    if kind not in ("timm", "huggingface", "package") or not isinstance(name, str):
        raise _does_not_fit(path, f"its source is {kind!r} {name!r}")
    if not isinstance(arguments, dict):
        raise _does_not_fit(path, "its constructor arguments are missing")
    return ModelSource(kind, name, arguments)


def _build(path: Path, source: ModelSource) -> nn.Module:
    try:
        return build_module(source)
    # A constructor may meet arguments of any type and size.
    except MODEL_FAILURES as error:
        raise ModelError(
            f"{source.name} cannot be built with the arguments in {path}: {first_line(error)}",
            hint="install the library versions that the file's report names",
        ) from error


def _check_native_tensors(path: Path, dense: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Compare the tensors with those of the dense architecture, which takes no memory here."""
    state = dense.state_dict()
    known = {**dict(dense.named_buffers(remove_duplicate=False)), **state}
    odd = min({*(state.keys() - tensors.keys()), *(tensors.keys() - known.keys())}, default=None)
    if odd is not None:
        raise _does_not_fit(
            path, f"{odd} is missing" if odd in state else f"{odd} is not part of the model"
        )
    for key, tensor in tensors.items():
        whole = known[key]
        smaller = all(new <= old for new, old in zip(tensor.shape, whole.shape, strict=False))
        if tensor.ndim != whole.ndim or not smaller:
            raise _does_not_fit(
                path, f"{key} has shape {tuple(tensor.shape)}, above {tuple(whole.shape)}"
            )
        if tensor.is_floating_point() != whole.is_floating_point():
            raise _does_not_fit(path, f"{key} has dtype {tensor.dtype}")
    _check_size(path, dense, tensors)


def _check_size(path: Path, dense: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a dense architecture that is far larger than what the file holds of it."""
    held = sum(tensor.numel() for tensor in tensors.values())
    size = sum(tensor.numel() for tensor in [*dense.parameters(), *dense.buffers()])
    if size > max(_SMALL_ELEMENTS, _MOST_REMOVED * held):
        raise _does_not_fit(path, f"its dense model has {size:,} elements, the file {held:,}")


def _place(module: nn.Module, key: str, tensor: Tensor, shared: dict[int, nn.Parameter]) -> None:
    """Put a tensor into a module; tied names share one parameter."""
    owner = module.get_submodule(key.rpartition(".")[0])
    leaf = key.rpartition(".")[2]
    if leaf in owner._parameters:
        parameter = shared.setdefault(id(tensor), nn.Parameter(tensor, tensor.is_floating_point()))
        set_tensor_(module, key, parameter)
    else:
        set_tensor_(module, key, tensor)


def _load_graph(path: Path, document: dict[str, Any], tensors: dict[str, Tensor]) -> GraphModel:
    program = program_from_json(document.get("program"))
    used = set(program.tensors.values())
    if used != tensors.keys():
        odd = min(used ^ tensors.keys())
        raise _does_not_fit(
            path, f"{odd} is missing" if odd in used else f"{odd} is not part of the model"
        )
    buffers = _names(path, document.get("buffers"))
    ordered = {name: tensors[name] for name in dict.fromkeys(program.tensors.values())}
    parameters = {name: tensor for name, tensor in ordered.items() if name not in buffers}
    if any(not tensor.is_floating_point() for tensor in parameters.values()):
        raise _does_not_fit(path, "an integer tensor is not listed as a buffer")
    for tensor in parameters.values():
        tensor.requires_grad_()
    try:
        return GraphModel(program, parameters, {n: t for n, t in ordered.items() if n in buffers})
    except (AttributeError, KeyError) as error:
        raise _does_not_fit(path, f"a tensor has an impossible name ({error})") from error


def _mapping(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _names(path: Path, value: object) -> set[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _does_not_fit(path, "its buffers are not a list of names")
    return set(value)


def _does_not_fit(path: Path, what: str) -> FileFormatError:
    return FileFormatError(
        f"{path} cannot be loaded: {what}",
        hint="copy it again, or write it again with `ramda prune`",
    )
