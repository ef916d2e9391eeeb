"""A small set of parameters whose channels spread over tensors, dimensions and odd positions."""

import numpy as np
import torch
from torch import Tensor, nn

from ramda_cli.optimizers import Penalty
from ramda_cli.regularizers import GroupLasso
from ramda_cli.structure.groups import DependencyGroup, ParameterSlice


def parameters(dtype: torch.dtype = torch.float64, *, seed: int = 0) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "conv.weight": (5, 3, 3, 3),
        "head.weight": (4, 14),
        "gate.weight": (6, 7),
        "norm.weight": (3,),
        "free.weight": (3, 5),
    }
    return {
        name: nn.Parameter(torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype))
        for name, shape in shapes.items()
    }


def group(
    name: str, channels: int, *slices: tuple[str, int, list[int] | list[list[int]]]
) -> DependencyGroup:
    parts = tuple(
        ParameterSlice(parameter, dim, np.asarray(indices, dtype=np.int64).reshape(channels, -1))
        for parameter, dim, indices in slices
    )
    return DependencyGroup(name, channels, parts, parts)


def groups() -> list[DependencyGroup]:
    blocks = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    return [
        group(
            "trunk",
            3,
            ("conv.weight", 1, [0, 1, 2]),
            ("head.weight", 1, blocks),
            ("norm.weight", 0, [2, 0, 1]),
            ("gate.weight", 1, [6, 0, 3]),
        ),
        group("side", 2, ("gate.weight", 1, [[5, 1], [2, 4]]), ("head.weight", 1, [13, 12])),
    ]


def penalized(trunk: float = 0.05, side: float = 0.02) -> list[Penalty]:
    return [
        Penalty(each, GroupLasso(weight))
        for each, weight in zip(groups(), (trunk, side), strict=True)
    ]


def set_gradients(named: dict[str, nn.Parameter], seed: int, *, scale: float = 0.3) -> None:
    """Give every parameter a gradient that depends on the seed and on the parameter's value."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in named.values():
        noise = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
        gradient = scale * noise + 0.1 * parameter.detach().double()
        parameter.grad = gradient.to(parameter.dtype)


def channel_values(
    values: dict[str, Tensor], dependency_group: DependencyGroup, channel: int
) -> Tensor:
    """Return a channel's penalized entries, by plain indexing."""
    return torch.cat([
        values[part.parameter].movedim(part.dim, 0)[part.indices[channel].tolist()].flatten()
        for part in dependency_group.penalized
    ])  # fmt: skip


def set_channel_values(
    values: dict[str, Tensor], dependency_group: DependencyGroup, channel: int, entries: Tensor
) -> None:
    """Write a channel's penalized entries, in the order of `channel_values`."""
    start = 0
    for part in dependency_group.penalized:
        view = values[part.parameter].movedim(part.dim, 0)
        for position in part.indices[channel].tolist():
            count = view[position].numel()
            view[position] = entries[start : start + count].view(view[position].shape)
            start += count
