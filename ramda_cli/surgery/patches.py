"""Setting the sizes that live in Python attributes, so that a model runs in its own class.

What the table of sizes yields is always compared with the original before it is used.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ramda_cli.errors import FileFormatError
from ramda_cli.structure.support import named_tensors
from ramda_cli.structure.trace import operator_name
from ramda_cli.surgery.operators import CONV_GROUPS
from ramda_cli.surgery.program import GraphModel, Reference
from ramda_cli.surgery.sizes import Size, attributes_of, sizes_of

Patches = dict[str, dict[str, Size]]
"""Module path to attribute to its new value."""


def resize_module_(module: nn.Module, smaller: GraphModel, aliases: Mapping[str, str]) -> Patches:
    """Give a module the tensors of its rewritten graph, and the sizes that go with them, in place.

    Args:
        module: a copy of the model that was rewritten; it may share tensors with it.
        smaller: the rewritten graph, which the module then shares its tensors with.
        aliases: names of tied tensors, to the name that the graph uses.

    Returns:
        The attributes that changed.
    """
    tensors = named_tensors(smaller)
    unread: dict[int, Tensor] = {}
    for name, dense in named_tensors(module).items():
        tensor = tensors.get(aliases.get(name, name))
        if tensor is None:
            tensor = unread.setdefault(id(dense), copy.deepcopy(dense))
        set_tensor_(module, name, tensor)
    patches: Patches = {}
    groups = _conv_groups(smaller)
    for path, child in module.named_modules():
        sizes = sizes_of(path, child, groups)
        changed = {key: size for key, size in sizes.items() if _get(child, key) != size}
        if changed:
            patches[path] = changed
    apply_patches_(module, patches)
    return patches


def apply_patches_(module: nn.Module, patches: Mapping[str, Mapping[str, Size]]) -> None:
    """Set size attributes, in place.

    Raises:
        FileFormatError: a module or attribute is not one that a plan may change.
    """
    modules = dict(module.named_modules())
    for path, attributes in patches.items():
        child = modules.get(path)
        for name, size in attributes.items():
            if child is None or name not in attributes_of(child) or not _is_size(size):
                raise FileFormatError(
                    f"the plan sets {path}.{name} to {size!r}, which is not a size it may change",
                    hint="the file is damaged or was not written by ramda",
                )
            _set(child, name, size)


def _is_size(value: object) -> bool:
    sizes = value if isinstance(value, list) and value else [value]
    return all(type(size) is int and size >= 1 for size in sizes)


def _get(module: nn.Module, name: str) -> object:
    owner, _, leaf = name.rpartition(".")
    value = getattr(getattr(module, owner) if owner else module, leaf)
    return list(value) if isinstance(value, tuple) else value


def _set(module: nn.Module, name: str, size: Size) -> None:
    owner, _, leaf = name.rpartition(".")
    target: object = module
    if owner:
        # The model's modules share one configuration; this one gets its own.
        target = copy.copy(getattr(module, owner))
        setattr(module, owner, target)
    is_tuple = isinstance(getattr(target, leaf), tuple)
    setattr(target, leaf, tuple(size) if is_tuple and isinstance(size, list) else size)


def set_module_(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replace a submodule under every name that it has, in place."""
    for owner in list(model.modules()):
        for name, child in owner._modules.items():
            if child is old:
                owner._modules[name] = new


def set_tensor_(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Replace a parameter or buffer by one of another shape, in place."""
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    if leaf in owner._parameters:
        # A parameter is taken as it is, so that tied ones stay one object.
        parameter = (
            tensor
            if isinstance(tensor, nn.Parameter)
            else nn.Parameter(tensor.detach(), tensor.requires_grad)
        )
        if isinstance(owner, nn.RNNBase):
            setattr(owner, leaf, parameter)  # it keeps a list of its weights
        else:
            owner._parameters[leaf] = parameter
    else:
        owner._buffers[leaf] = tensor.detach()


def _conv_groups(smaller: GraphModel) -> dict[str, int]:
    """Return the number of groups of every convolution in the graph, by its weight's name."""
    groups: dict[str, int] = {}
    for operation in smaller.program.operations:
        if not isinstance(operation.target, torch._ops.OpOverload):
            continue
        if not operator_name(operation.target).startswith("conv"):
            continue
        weight = operation.args[1]
        name = smaller.program.tensors.get(weight.name) if isinstance(weight, Reference) else None
        if name is not None and len(operation.args) > CONV_GROUPS:
            groups[name] = operation.args[CONV_GROUPS]
    return groups
