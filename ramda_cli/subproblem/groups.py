"""Groups whose entries lie in several tensors, summed without gathering them.

Each tensor is reduced to its cells (see `Cells`) where it lies; only the cell sums, far fewer, are
then brought together by channel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ramda_cli.subproblem.cells import Cells, memory_order


@dataclass(frozen=True, eq=False)
class Member:
    """One tensor's part in the groups.

    Attributes:
        like: a dense tensor with the shape, strides and device of the member's values.
        dim: the dimension whose positions belong to channels.
        owner: channel of each position along `dim`; the number of channels where there is none.
    """

    like: Tensor
    dim: int
    owner: Int[Tensor, " positions"]


@dataclass(frozen=True, eq=False)
class CellIndex:
    """How the cells of all members map to channels.

    Attributes:
        dims: the sliced dimension of each member.
        owners: channel of each cell of each member; the number of channels where there is none.
        order: the owned cells, numbered through all members, sorted by channel.
        lengths: cells of each channel.
        processes: that hold parts of the members, over which channels are reduced too.
    """

    dims: tuple[int, ...]
    owners: tuple[Int[Tensor, " cells"], ...]
    order: Int[Tensor, " owned"]
    lengths: Int[Tensor, " channels"]
    processes: dist.ProcessGroup | None = None

    def by_channel(
        self, cells: Sequence[Float[Tensor, " cells"]], reduce: Literal["sum", "max"] = "sum"
    ) -> Float[Tensor, " channels"]:
        """Reduce values of cells to channels, in an order that is the same in every run.

        A maximum is over values >= 0.
        """
        # Atomic additions would not be: borderline groups would flip between runs.
        values = torch.cat([each.to(self.order.device) for each in cells])[self.order]
        out = torch.segment_reduce(values, reduce, lengths=self.lengths, initial=0, unsafe=True)
        if self.processes is not None:
            largest = dist.ReduceOp.MAX if reduce == "max" else dist.ReduceOp.SUM
            dist.all_reduce(out, largest, group=self.processes)
        return out

    def inner_products(
        self, ones: Sequence[Tensor], others: Sequence[Tensor]
    ) -> Float[Tensor, " channels"]:
        """Return Σ x y over the entries of each channel, for two tensors per member."""
        pairs = zip(ones, others, self.dims, strict=True)
        return self.by_channel([Cells.view(*each).product_sums() for each in pairs])

    def by_cell(
        self, values: Float[Tensor, " channels"], *, unowned: float
    ) -> list[Float[Tensor, " cells"]]:
        """Give each cell of each member the value of its channel."""
        padded = F.pad(values, (0, 1), value=unowned)
        return [padded.to(owner.device)[owner] for owner in self.owners]


def index_cells(
    members: Sequence[Member], channels: int, processes: dist.ProcessGroup | None = None
) -> CellIndex:
    """Map cells to channels; the result holds as long as shapes and strides do."""
    owners = []
    for member in members:
        order, outer = memory_order(member.like, member.dim)
        stored_inside = order[order.index(member.dim) + 1 :]
        inner = 1 if outer == 1 else math.prod(member.like.shape[dim] for dim in stored_inside)
        owners.append(member.owner.repeat_interleave(inner))
    # Cells are brought together on the first member's device.
    joined = torch.cat([owner.to(owners[0].device) for owner in owners])
    lengths = torch.bincount(joined, minlength=channels + 1)[:channels]
    sorted_cells = joined.argsort(stable=True)[: int(lengths.sum())]
    dims = tuple(member.dim for member in members)
    return CellIndex(dims, tuple(owners), sorted_cells, lengths, processes)


@dataclass(frozen=True, eq=False)
class Moments:
    """What the zero test and the first Newton step need, per channel.

    Attributes:
        scale: max |w|, by which w has been divided; 1 where w = 0.
        norm: ‖w‖ after that division.
        curvature: Σ w² d after that division.
    """

    scale: Float[Tensor, " channels"]
    norm: Float[Tensor, " channels"]
    curvature: Float[Tensor, " channels"]


class Groups:
    """The values of all members in one step; the functions a secular solver calls.

    Args:
        index: maps cells to channels.
        w: D x₀ - v of each member; `normalize_` and `solve_` overwrite it.
        d: diagonal of D of each member, > 0, with the shape and strides of its w.
        factors: multiplies w and d of a member; 1 unless it has step sizes of its own.
    """

    def __init__(
        self,
        index: CellIndex,
        w: Sequence[Tensor],
        d: Sequence[Tensor],
        *,
        factors: Sequence[float],
    ) -> None:
        self._index = index
        self._members = [Cells.view(*each) for each in zip(w, d, index.dims, strict=True)]
        self._factors = tuple(factors)

    def normalize_(self) -> Moments:
        """Divide w by each channel's max |w|, so that its squares neither overflow nor vanish."""
        largest = self._index.by_channel(
            [m.max_abs().mul_(k) for m, k in zip(self._members, self._factors, strict=True)], "max"
        )
        scale = largest.clamp_min(torch.finfo(largest.dtype).tiny)
        scale = torch.where(largest == 0, 1.0, scale)
        squares, curvatures = [], []
        divisors = self._index.by_cell(scale, unowned=1.0)
        for member, factor, divisor in zip(self._members, self._factors, divisors, strict=True):
            square, curvature = member.divide_(divisor / factor)
            squares.append(square)
            curvatures.append(curvature.mul_(factor))
        norm = self._index.by_channel(squares).sqrt_()
        return Moments(scale, norm, self._index.by_channel(curvatures))

    def secular_sums(
        self, r: Float[Tensor, " channels"], shrinkage: Float[Tensor, " channels"]
    ) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
        """Return φ(r) and -φ'(r)/2 for the normalized w and L."""
        phis, derivatives = [], []
        slopes = self._index.by_cell(r, unowned=1.0)
        offsets = self._index.by_cell(shrinkage, unowned=0.0)
        values = zip(self._members, self._factors, slopes, offsets, strict=True)
        for member, factor, slope, offset in values:
            phi, derivative = member.secular_sums(slope * factor, offset)
            phis.append(phi)
            derivatives.append(derivative.mul_(factor))
        return self._index.by_channel(phis), self._index.by_channel(derivatives)

    @property
    def index(self) -> CellIndex:
        """The map from cells to channels."""
        return self._index

    @property
    def members(self) -> list[tuple[Cells, float]]:
        """The values of each member, and its factor, which a normalized w has in it already."""
        return [*zip(self._members, self._factors, strict=True)]

    def solve_(self, ratio: Float[Tensor, " channels"], scale: Float[Tensor, " channels"]) -> None:
        """Overwrite w by p = w / (d + L/r), and by w / d where no channel owns the entry.

        Args:
            ratio: L/r; infinite where the channel is zero.
            scale: what `normalize_` divided by, undone here in the denominator.
        """
        slopes = self._index.by_cell(scale.reciprocal(), unowned=1.0)
        offsets = self._index.by_cell(ratio / scale, unowned=0.0)
        values = zip(self._members, self._factors, slopes, offsets, strict=True)
        for member, factor, slope, offset in values:
            member.solve_(slope * factor, offset)
