"""Sizes that live in Python attributes: which module keeps which, and how it follows the weights.

A model can be shrunk in its own class only where every size its code reads is known here. The
table is by class, never by value: two attributes of equal value can mean different things. What
the table yields is always compared with the original before it is used.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import Attention
from torch import Tensor, nn

from ramda_cli.errors import FileFormatError
from ramda_cli.structure.support import named_tensors
from ramda_cli.structure.trace import operator_name
from ramda_cli.surgery.operators import CONV_GROUPS
from ramda_cli.surgery.program import GraphModel, Reference

Patches = dict[str, dict[str, int]]
"""Module path to attribute to its new value."""


@dataclass(frozen=True)
class _Sizes:
    """The size attributes of a class, computed from a module whose tensors are already smaller."""

    kind: type[nn.Module]
    attributes: tuple[str, ...]
    compute: Callable[[Any], tuple[int, ...]]


def _attention(module: Any) -> tuple[int, ...]:
    heads = module.proj.weight.shape[1] // module.head_dim
    return heads, heads * module.head_dim


_TABLE = (
    _Sizes(nn.Linear, ("out_features", "in_features"), lambda m: tuple(m.weight.shape)),
    _Sizes(
        nn.modules.batchnorm._NormBase,
        ("num_features",),
        lambda m: (m.num_features if m.weight is None else m.weight.shape[0],),
    ),
    _Sizes(nn.Embedding, ("embedding_dim",), lambda m: (m.weight.shape[1],)),
    _Sizes(Attention, ("num_heads", "attn_dim"), _attention),
)
_CONV_ATTRIBUTES = ("in_channels", "out_channels", "groups")


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
        sizes = _new_sizes(path, child, groups)
        changed = {key: size for key, size in sizes.items() if getattr(child, key) != size}
        if changed:
            patches[path] = changed
    apply_patches_(module, patches)
    return patches


def apply_patches_(module: nn.Module, patches: Mapping[str, Mapping[str, int]]) -> None:
    """Set size attributes, in place.

    Raises:
        FileFormatError: a module or attribute is not one that a plan may change.
    """
    modules = dict(module.named_modules())
    for path, attributes in patches.items():
        child = modules.get(path)
        for name, size in attributes.items():
            if child is None or name not in _allowed(child) or type(size) is not int or size < 1:
                raise FileFormatError(
                    f"the plan sets {path}.{name} to {size!r}, which is not a size it may change",
                    hint="the file is damaged or was not written by ramda",
                )
            setattr(child, name, size)


def set_tensor_(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Replace a parameter or buffer by one of another shape, in place."""
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    if leaf in owner._parameters:
        # A parameter is taken as it is, so that tied ones stay one object.
        owner._parameters[leaf] = (
            tensor
            if isinstance(tensor, nn.Parameter)
            else nn.Parameter(tensor.detach(), tensor.requires_grad)
        )
    else:
        owner._buffers[leaf] = tensor.detach()


def _new_sizes(path: str, module: nn.Module, groups: Mapping[str, int]) -> dict[str, int]:
    if isinstance(module, nn.modules.conv._ConvNd):
        conv_groups = groups.get(f"{path}.weight" if path else "weight", module.groups)
        one, other = module.weight.shape[:2]
        sizes = (one, other * conv_groups) if module.transposed else (other * conv_groups, one)
        return dict(zip(_CONV_ATTRIBUTES, (*sizes, conv_groups), strict=True))
    for entry in _TABLE:
        if isinstance(module, entry.kind):
            return dict(zip(entry.attributes, entry.compute(module), strict=True))
    return {}


def _allowed(module: nn.Module) -> tuple[str, ...]:
    if isinstance(module, nn.modules.conv._ConvNd):
        return _CONV_ATTRIBUTES
    return next((e.attributes for e in _TABLE if isinstance(module, e.kind)), ())


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
