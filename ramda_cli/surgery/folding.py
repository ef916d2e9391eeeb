"""Constant channels: what reads them is changed so that they can go, and the function stays.

A channel of which every reader sees the same number v_i for every input and at every position adds
sum_i W[:, i] v_i to what the weights W read otherwise. If v_i is 0, so may be W[:, i]. Of the
others two stay, a and b, and carry all of them:

    W[:, a] <- round(T / v_a),   W[:, b] <- round((T - W[:, a] v_a) / v_b),   T = sum_i W[:, i] v_i

Two, because one number rounds T, to 2^-24 in float32, and the second holds what was lost. This
holds in front of a padded convolution too, where no bias could stand for a constant channel: near
the border the same taps are missing of a and b as of every other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ramda_cli.structure import ParameterSlice, Structure
from ramda_cli.structure.constants import Reading, read_constants
from ramda_cli.structure.support import named_tensors

_CARRIERS = 2
_STRONG = 0.125
"""Of the largest: a small constant may be what rounding left, and be another one in float32."""


@dataclass(frozen=True)
class Folding:
    """What became of the constant channels, by group name.

    Attributes:
        unread: channels that were made zero where they are read.
        carriers: constant channels that stay, and carry what others of their group added, if any.
    """

    unread: Mapping[str, Sequence[int]]
    carriers: Mapping[str, Sequence[int]]


@torch.no_grad()
def fold_constants_(model: nn.Module, structure: Structure) -> Folding:
    """Make constant channels zero where they are read, in place, and keep the function.

    `identify` then finds them. Where constants are not zero, two stay for each of their readers.

    Args:
        model: the model that `structure` was discovered on.
        structure: with the readers of its channels as penalized slices, as `discover` gives them.

    Raises:
        ValueError: the structure was not discovered on a graph.
    """
    if structure.graph is None:
        raise ValueError("folding needs the structure of discover(), not single-tensor groups")
    readings = read_constants(model, structure.graph.trace)
    tensors = named_tensors(model)
    unread: dict[str, list[int]] = {}
    carriers: dict[str, list[int]] = {}
    for group in structure.groups:
        readers = [_reader(part, readings, tensors[part.parameter]) for part in group.penalized]
        known = torch.stack([reader.values.isfinite().all(dim=1) for reader in readers]).all(dim=0)
        adds = torch.stack([(reader.values != 0).any(dim=1) for reader in readers]).any(dim=0)
        carrying = _choose_carriers(readers, known & adds)
        gone = known & ~carrying
        for reader in readers:
            reader.fold_(gone, carrying)
        unread |= _named(group.name, gone)
        carriers |= _named(group.name, carrying)
    return Folding(unread, carriers)


@dataclass(frozen=True, eq=False)
class _Reader:
    """A weight that reads a group's channels.

    Attributes:
        rows: the weight with its input channels first; writing to it changes the weight.
        positions: (channels, block), the rows of each channel.
        values: float64 of the same shape, what each row reads; 0 where the row is zero itself, and
            NaN where it is not known.
    """

    rows: Tensor
    positions: Tensor
    values: Tensor

    @property
    def strength(self) -> Tensor:
        """The largest constant of each channel, by absolute value."""
        return self.values.abs().amax(dim=1)

    def fold_(self, gone: Tensor, carrying: Tensor) -> None:
        """Read nothing of some channels, and let others carry what these added; both are masks."""
        if (self.strength[gone] > 0).any():
            chosen = torch.where(carrying, self.strength, 0.0).argsort(descending=True)[:_CARRIERS]
            self._carry_(self._total(gone) + self._total(chosen), chosen)
        self.rows[self.positions[gone].flatten()] = 0.0

    def _total(self, channels: Tensor) -> Tensor:
        """Return what channels add, per tap of the weight, in float64."""
        rows = self.rows[self.positions[channels].flatten()].double().cpu()
        return torch.tensordot(self.values[channels].flatten(), rows, dims=1)

    def _carry_(self, total: Tensor, carriers: Tensor) -> None:
        """Let these channels, in turn, add what is left of a total."""
        for channel in carriers.tolist():
            strongest = int(self.values[channel].abs().argmax())
            value = self.values[channel, strongest]
            row = (total / value).to(self.rows.dtype)
            self.rows[self.positions[channel]] = 0.0
            self.rows[self.positions[channel, strongest]] = row.to(self.rows.device)
            total = total - row.double() * value


def _reader(part: ParameterSlice, readings: Mapping[str, Reading], weight: Tensor) -> _Reader:
    rows = weight.detach().movedim(part.dim, 0)
    positions = torch.from_numpy(part.indices)
    reading = readings.get(part.parameter)
    if reading is None or reading.dim != part.dim:
        values = torch.full(positions.shape, torch.nan, dtype=torch.float64)
    else:
        values = reading.constants[positions]
    is_zero = (rows == 0).flatten(1).all(dim=1).cpu()
    return _Reader(rows, positions, values.masked_fill(is_zero[positions], 0.0))


def _choose_carriers(readers: Sequence[_Reader], constant: Tensor) -> Tensor:
    """Return which of the constant channels stay, few that give every reader two.

    Each reader needs a strong one, compared with its others; what that loses, any second holds.
    """
    strengths = torch.stack([torch.where(constant, one.strength, 0.0) for one in readers])
    largest = strengths.amax(dim=1, keepdim=True)
    strong = (strengths > 0) & (strengths >= _STRONG * largest)
    carrying = torch.zeros_like(constant)
    for wanted, candidates in ((1, strong), (_CARRIERS, strengths > 0)):
        popular = candidates.sum(dim=0)
        for own, strength in zip(candidates, strengths, strict=True):
            while int((own & carrying).sum()) < min(wanted, int(own.sum())):
                left = own & ~carrying
                best = left & (popular == popular[left].max())
                carrying[torch.where(best, strength, 0.0).argmax()] = True
    return carrying


def _named(name: str, mask: Tensor) -> dict[str, list[int]]:
    chosen = mask.nonzero().flatten().tolist()
    return {name: chosen} if chosen else {}
