"""Weights that may lose ranks, and when that pays."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Matrix:
    """A weight of a layer, as the matrix of its first dimension by all others.

    Attributes:
        parameter: its qualified name.
        rows, cols: of the matrix.
    """

    parameter: str
    rows: int
    cols: int

    @property
    def layer(self) -> str:
        """The path of the layer that has it."""
        return self.parameter.rpartition(".")[0]

    @property
    def full_rank(self) -> int:
        """The largest rank that it can have."""
        return min(self.rows, self.cols)

    @property
    def largest_paying_rank(self) -> int:
        """The largest rank at which two factors have fewer entries; 0 if none."""
        return largest_paying_rank(self.rows, self.cols)


def largest_paying_rank(rows: int, cols: int) -> int:
    """Return the largest rank whose two factors have fewer entries than the matrix; 0 if none."""
    return (rows * cols - 1) // (rows + cols)
