"""One tensor's entries as a matrix whose rows, or columns, each belong to one channel.

Where the sliced dimension is the outermost in memory, a row is one position of it. Otherwise the
columns are its positions times whatever is stored inside them. Either way the matrix is a view, a
*cell* (a row or a column) belongs to one channel at most, and all work is element-wise with one
value per cell or a sum over cells, both along contiguous memory.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# Temporaries of this many entries stay in a CPU's second-level cache. Elsewhere a tensor is taken
# whole: launches would cost more than the memory traffic saved.
_CPU_BLOCK_ENTRIES = 1 << 17


def memory_order(tensor: Tensor, dim: int) -> tuple[list[int], int]:
    """Return the dimensions from outermost to innermost, and the entries outside `dim`."""
    order = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
    return order, math.prod(tensor.shape[i] for i in order[: order.index(dim)])


@dataclass(frozen=True, eq=False)
class Cells:
    """The w and d of one tensor, and the sums over each cell that a solver asks for.

    Attributes:
        w: D x₀ - v; `divide_` and `solve_` overwrite it.
        d: the diagonal of D, > 0.
        by_row: whether a cell is a row.
    """

    w: Float[Tensor, "rows columns"]
    d: Float[Tensor, "rows columns"]
    by_row: bool

    @classmethod
    def view(cls, w: Tensor, d: Tensor, dim: int) -> "Cells":
        """See two dense tensors of equal shape and strides as matrices, sliced along `dim`."""
        order, outer = memory_order(w, dim)
        rows = w.shape[dim] if outer == 1 else outer
        inside = order.index(dim) + (outer == 1)
        columns = math.prod(w.shape[i] for i in order[inside:])
        stored_w, stored_d = w.permute(order), d.permute(order)
        shape = rows, columns
        return cls(stored_w.view(shape), stored_d.view(shape), by_row=outer == 1)

    def product_sums(self) -> Float[Tensor, " cells"]:
        """Return Σ w d."""
        out = self._zeros()
        for rows, cells in self._blocks():
            out[cells] += (self.w[rows] * self.d[rows]).sum(self._along)
        return out

    def max_abs(self) -> Float[Tensor, " cells"]:
        """Return max |w|."""
        out = self._zeros()
        for rows, cells in self._blocks():
            torch.maximum(out[cells], self.w[rows].abs().amax(self._along), out=out[cells])
        return out

    def divide_(
        self, divisor: Float[Tensor, " cells"]
    ) -> tuple[Float[Tensor, " cells"], Float[Tensor, " cells"]]:
        """Divide w, and return Σ w² and Σ w² d of what results."""
        squares, curvatures = self._zeros(), self._zeros()
        for rows, cells in self._blocks():
            square = self.w[rows].div_(self._spread(divisor[cells])).square()
            squares[cells] += square.sum(self._along)
            curvatures[cells] += square.mul_(self.d[rows]).sum(self._along)
        return squares, curvatures

    def secular_sums(
        self, slope: Float[Tensor, " cells"], offset: Float[Tensor, " cells"]
    ) -> tuple[Float[Tensor, " cells"], Float[Tensor, " cells"]]:
        """Return Σ (w / e)² and Σ (w / e)² d / e, with e = `slope` d + `offset`."""
        phi, derivative = self._zeros(), self._zeros()
        for rows, cells in self._blocks():
            d = self.d[rows]
            e = torch.addcmul(self._spread(offset[cells]), d, self._spread(slope[cells]))
            square = (self.w[rows] / e).square_()
            phi[cells] += square.sum(self._along)
            derivative[cells] += square.mul_(d).div_(e).sum(self._along)
        return phi, derivative

    def solve_(self, slope: Float[Tensor, " cells"], offset: Float[Tensor, " cells"]) -> None:
        """Divide w by `slope` d + `offset`."""
        for rows, cells in self._blocks():
            slope_block, offset_block = self._spread(slope[cells]), self._spread(offset[cells])
            self.w[rows].div_(torch.addcmul(offset_block, self.d[rows], slope_block))

    @property
    def _along(self) -> int:
        return 1 if self.by_row else 0

    def _spread(self, values: Float[Tensor, " cells"]) -> Float[Tensor, "_ _"]:
        return values.unsqueeze(self._along)

    def _zeros(self) -> Float[Tensor, " cells"]:
        return self.w.new_zeros(self.w.shape[1 - self._along])

    def _blocks(self) -> Iterator[tuple[slice, slice]]:
        """Cut into runs of rows that fit the cache, each with the cells that it touches."""
        rows, columns = self.w.shape
        run = max(1, _CPU_BLOCK_ENTRIES // max(1, columns)) if self.w.device.type == "cpu" else rows
        for start in range(0, rows, max(1, run)):
            block = slice(start, start + run)
            yield block, block if self.by_row else slice(None)
