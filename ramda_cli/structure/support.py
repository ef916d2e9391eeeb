"""Which channels are zero: exactly zero, never nearly."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ramda_cli.structure.discover import ChannelGraph, Structure
from ramda_cli.structure.groups import DependencyGroup, ParameterSlice
from ramda_cli.structure.labels import Mask


@dataclass(frozen=True)
class Support:
    """The zero channels of a model.

    Attributes:
        removable: for each group with zero channels, which, in ascending order.
        held: zero channels that stay so that no tensor becomes empty, or of a size that an
            operator does not take.
    """

    removable: dict[str, list[int]]
    held: dict[str, list[int]]


@torch.no_grad()
def zero_(model: nn.Module, structure: Structure, channels: Mapping[str, Sequence[int]]) -> None:
    """Set the penalized entries of these channels to exactly 0, in place.

    Args:
        model: the model that `structure` was discovered on.
        structure: its groups.
        channels: by group name.

    Raises:
        ValueError: there is no such group or channel.
    """
    tensors = named_tensors(model)
    known = {group.name: group for group in structure.groups}
    for name, chosen in channels.items():
        if name not in known:
            raise ValueError(f"no dependency group is named {name!r}")
        group = known[name]
        for channel in chosen:
            if not 0 <= channel < group.channels:
                raise ValueError(f"{name} has channels 0 to {group.channels - 1}, got {channel}")
        for part in group.penalized:
            positions = torch.from_numpy(part.indices[list(chosen)].ravel())
            tensor = tensors[part.parameter]
            tensor.index_fill_(part.dim, positions.to(tensor.device), 0.0)


@torch.no_grad()
def identify(model: nn.Module, structure: Structure) -> Support:
    """Find the channels whose penalized entries are all exactly zero.

    At least one position stays along every dimension of every value in the model: where all are
    zero, one channel is held back. So are a few where an operator takes only certain sizes.
    """
    tensors = named_tensors(model)
    zeros = {group.name: _zero_channels(group, tensors) for group in structure.groups}
    held = _hold_back(structure, zeros)
    removable = {name: np.flatnonzero(zero).tolist() for name, zero in zeros.items() if zero.any()}
    return Support(removable, held)


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by every name they have."""
    named: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    named.update(model.named_buffers(remove_duplicate=False))
    return named


def shared_parameters(model: nn.Module) -> set[int]:
    """Return the ids of the parameters that have several names."""
    names = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    return {parameter for parameter, count in names.items() if count > 1}


def _zero_channels(group: DependencyGroup, tensors: Mapping[str, Tensor]) -> Mask:
    zero = np.ones(group.channels, dtype=bool)
    for part in group.penalized:
        zero &= _zero_in(part, tensors[part.parameter])
    return zero


def _zero_in(part: ParameterSlice, tensor: Tensor) -> Mask:
    other = [d for d in range(tensor.ndim) if d != part.dim]
    zero = (tensor == 0).all(dim=tuple(other)) if other else tensor == 0
    by_position: Mask = zero.cpu().numpy()
    return np.logical_and.reduce(by_position[part.indices], axis=1)


def _hold_back(structure: Structure, zeros: dict[str, Mask]) -> dict[str, list[int]]:
    """Unmark channels where all of a dimension is marked, or what is left has a bad size."""
    graph = structure.graph
    if graph is None:
        return {}
    removed = np.zeros(graph.classes.count, dtype=bool)
    for name, zero in zeros.items():
        removed[graph.members[name]] = zero
    held: dict[str, list[int]] = {}

    def hold(channel_class: int) -> None:
        name, channel = _owner(graph, channel_class)
        removed[channel_class] = False
        zeros[name][channel] = False
        held[name] = sorted([*held.get(name, ()), channel])

    for extent in graph.extents:
        if removed[extent].all():
            hold(int(extent[0]))
    for along, multiple in graph.aligned:
        gone = np.unique(along[(along >= 0) & removed[along]])
        for channel_class in gone[: -(along.size - gone.size) % multiple].tolist():
            hold(channel_class)
    return held


def _owner(graph: ChannelGraph, channel_class: int) -> tuple[str, int]:
    """Return the group and channel of a class that can be removed."""
    return next(
        (name, int(np.flatnonzero(classes == channel_class)[0]))
        for name, classes in graph.members.items()
        if channel_class in classes
    )
