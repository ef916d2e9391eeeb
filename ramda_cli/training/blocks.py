"""Channels in blocks that go together, so that every width on the way is an allowed one."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ramda_cli.structure.widths import Widths


class Blocks:
    """The blocks of `Widths` for given scores: the least needed channels of a group go first.

    Args:
        widths: which are allowed.
        device: of the scores.
    """

    def __init__(self, widths: Widths, device: torch.device) -> None:
        sizes, multiple, family = widths.channels, widths.multiple, widths.family
        group = np.repeat(np.arange(sizes.size), sizes)
        place = np.array([(family[:i] == f).sum() for i, f in enumerate(family)])
        blocks = 1 + (sizes - widths.first) // multiple
        self._per_family = int(blocks.max(initial=1))
        self._families = int(family.max(initial=-1)) + 1
        self._width = int(((place + 1) * multiple).max(initial=1))

        self._group, self._sizes, self._multiple, self._first, self._family, self._place = (
            torch.from_numpy(each.astype(np.int64)).to(device)
            for each in (group, sizes, multiple, widths.first, family, place)
        )

    def rank(self, scores: Float[Tensor, " channels"]) -> Int[Tensor, " channels"]:
        """Return how many channels of the same group have a lower score or come before."""
        order = scores.argsort(stable=True)
        by_group = order[self._group[order].argsort(stable=True)]
        starts = (self._sizes.cumsum(0) - self._sizes)[self._group]
        rank = torch.empty_like(self._group)
        rank[by_group] = torch.arange(len(order), device=order.device)
        return rank - starts

    def __call__(
        self, scores: Float[Tensor, " channels"]
    ) -> tuple[Float[Tensor, " channels"], Int[Tensor, " channels"]]:
        """Return each channel's block's score, and the number of the block.

        A block is worth what its channels are worth on average, or what a block that has to go
        before it is worth, if that is more. Blocks of a family are numbered in the order they go.
        A first block with more channels than the others, of ranks, has the same score throughout.

        Args:
            scores: of every channel; infinite ones stay, and with them their block.
        """
        rank = self.rank(scores)
        first, multiple = self._first[self._group], self._multiple[self._group]
        later = (rank - first).div(multiple, rounding_mode="floor") + 1
        step = torch.where(rank < first, 0, later)
        within = torch.where(rank < first, rank, (rank - first) % multiple)
        number = self._family[self._group] * self._per_family + step
        # Summed in cells of their own, for the same result in every run.
        cells = scores.new_zeros(self._families * self._per_family, self._width)
        members = cells.clone()
        column = self._place[self._group] * multiple + within.minimum(multiple - 1)
        cells[number, column] = scores
        members[number, column] = 1.0
        mean = cells.sum(1) / members.sum(1).clamp(min=1.0)
        worth = mean.view(self._families, self._per_family).cummax(1).values
        return worth.flatten()[number], number
