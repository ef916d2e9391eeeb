"""What is penalized, and which entries of which parameter belong to which channel."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ramda_cli.regularizers import GroupRegularizer
from ramda_cli.structure import Structure
from ramda_cli.structure.groups import DependencyGroup, ParameterSlice, check_disjoint


@dataclass(frozen=True, eq=False)
class Penalty:
    """A regularizer on the penalized entries of one dependency group, a group per channel."""

    group: DependencyGroup
    regularizer: GroupRegularizer


def penalties(structure: Structure, regularizer: GroupRegularizer) -> list[Penalty]:
    """Penalize every group of a structure."""
    return [Penalty(group, regularizer) for group in structure.groups if group.penalized]


@dataclass(frozen=True, eq=False)
class PenalizedParameter:
    """A parameter and the channel that owns each position along one of its dimensions.

    Attributes:
        name: its qualified name.
        dim: the dimension whose positions are owned.
        owner: channel of each position, counted through all penalties; -1 where there is none.
        penalties: numbers of the penalties that own some.
    """

    name: str
    dim: int
    owner: npt.NDArray[np.int64]
    penalties: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class PenaltyLayout:
    """All penalties together; their channels are counted one penalty after the other.

    Attributes:
        parameters: every parameter that some penalty reaches.
        penalty_of_channel: number of the penalty of each channel.
        sizes: penalized entries of each channel.
        weights: λ of each channel.
        gammas: γ of each channel; infinite for group lasso.
    """

    parameters: tuple[PenalizedParameter, ...]
    penalty_of_channel: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    gammas: npt.NDArray[np.float64]

    @property
    def channels(self) -> int:
        """Channels of all penalties."""
        return len(self.sizes)


def lay_out(penalized: Sequence[Penalty], named: Mapping[str, Tensor]) -> PenaltyLayout:
    """Find the owner of every penalized position.

    Raises:
        ValueError: a slice does not fit its parameter, or an entry is penalized twice.
    """
    counts = np.array([penalty.group.channels for penalty in penalized], dtype=np.int64)
    firsts = np.cumsum(counts) - counts
    slices: dict[str, list[tuple[int, ParameterSlice]]] = {}
    for number, penalty in enumerate(penalized):
        for part in penalty.group.penalized:
            _check_slice(part, penalty.group, named)
            slices.setdefault(part.parameter, []).append((number, part))

    check_disjoint([penalty.group for penalty in penalized])
    sizes = np.zeros(counts.sum(), dtype=np.int64)
    parameters = []
    for name, parts in slices.items():
        parameters.append(_owned(name, parts, firsts, named[name].shape))
        owner = parameters[-1].owner
        entries = math.prod(named[name].shape) // len(owner)
        sizes += entries * np.bincount(owner[owner >= 0], minlength=len(sizes))
    empty = np.flatnonzero(sizes == 0)
    penalty_of_channel = np.repeat(np.arange(len(counts)), counts)
    if empty.size:
        group = penalized[penalty_of_channel[empty[0]]].group
        raise ValueError(f"dependency group {group.name} has a channel without penalized entries")
    weights = np.array([penalty.regularizer.weight for penalty in penalized], dtype=np.float64)
    gammas = np.array([penalty.regularizer.gamma for penalty in penalized], dtype=np.float64)
    return PenaltyLayout(
        tuple(parameters),
        penalty_of_channel,
        sizes,
        weights[penalty_of_channel],
        gammas[penalty_of_channel],
    )


def _owned(
    name: str,
    parts: Sequence[tuple[int, ParameterSlice]],
    firsts: npt.NDArray[np.int64],
    shape: Sequence[int],
) -> PenalizedParameter:
    dim = parts[0][1].dim  # of all parts: slices along two dimensions would share entries
    owner = np.full(shape[dim], -1, dtype=np.int64)
    for number, part in parts:
        owner[part.indices] = firsts[number] + np.arange(len(part.indices))[:, None]
    return PenalizedParameter(name, dim, owner, tuple(sorted({number for number, _ in parts})))


def _check_slice(part: ParameterSlice, group: DependencyGroup, named: Mapping[str, Tensor]) -> None:
    where = f"dependency group {group.name} penalizes {part.parameter}"
    if part.parameter not in named:
        raise ValueError(f"{where}, which is not among the parameters")
    shape = tuple(named[part.parameter].shape)
    if not 0 <= part.dim < len(shape):
        raise ValueError(f"{where} along dim {part.dim}, but its shape is {shape}")
    if len(part.indices) != group.channels:
        raise ValueError(f"{where} in {len(part.indices)} channels, but has {group.channels}")
    if part.indices.size and not 0 <= part.indices.min() <= part.indices.max() < shape[part.dim]:
        raise ValueError(f"{where} outside of dim {part.dim}, whose size is {shape[part.dim]}")
