"""Dependency groups: channels that must be kept or removed together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class ParameterSlice:
    """The part of one parameter or buffer that belongs to a group.

    Attributes:
        parameter: qualified name, as in `model.named_parameters()` or `named_buffers()`.
        dim: the sliced dimension, >= 0.
        indices: int64 array of shape (channels, block); channel i owns the positions
            `indices[i]` along `dim`. `block` is above 1 for heads and after a flatten.
    """

    parameter: str
    dim: int
    indices: npt.NDArray[np.int64]

    @property
    def block(self) -> int:
        """Positions along `dim` per channel."""
        return int(self.indices.shape[1])


@dataclass(frozen=True, eq=False)
class DependencyGroup:
    """Coupled channels: removing channel i removes its positions of every slice.

    Attributes:
        name: the module that produces the channels; unique in a structure.
        channels: how many there are.
        penalized: slices whose joint norm the regularizer sees.
        coupled: slices that are removed along, the penalized ones included.
    """

    name: str
    channels: int
    penalized: tuple[ParameterSlice, ...]
    coupled: tuple[ParameterSlice, ...]


@dataclass(frozen=True)
class FixedChannels:
    """Channels that cannot be removed.

    Attributes:
        name: where they are.
        channels: how many.
        reason: why they stay.
        operator: the ATen operator that decided it; empty when no operator did.
    """

    name: str
    channels: int
    reason: str
    operator: str = ""


def crossing_parameter(slices: Iterable[ParameterSlice]) -> str | None:
    """Return a parameter of which two slices share an entry, or None.

    Slices along different dimensions of one parameter always share entries.
    """
    by_parameter: dict[str, list[ParameterSlice]] = {}
    for part in slices:
        by_parameter.setdefault(part.parameter, []).append(part)
    for parameter, parts in by_parameter.items():
        positions = np.concatenate([part.indices.ravel() for part in parts])
        if len({part.dim for part in parts}) > 1 or np.unique(positions).size < positions.size:
            return parameter
    return None


def check_disjoint(groups: Sequence[DependencyGroup]) -> None:
    """Refuse groups that penalize an entry twice: the prox would not separate over groups."""
    parameter = crossing_parameter(part for group in groups for part in group.penalized)
    if parameter is not None:
        raise ValueError(f"{parameter} is penalized twice")
