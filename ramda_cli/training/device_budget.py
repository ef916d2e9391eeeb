"""A budget on the device of the scores: which channels to zero, without a word to the host."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ramda_cli.structure.size_terms import Products
from ramda_cli.training.blocks import Blocks
from ramda_cli.training.budget import Budget

# Prefixes whose cost is computed at once. Each round of the search leaves one of so many parts.
_AT_ONCE = 16


class DeviceBudget:
    """`Budget.choose` in tensor operations, in a number that depends on nothing but the model.

    Args:
        budget: the same, on the host.
        device: where the scores are.
    """

    def __init__(self, budget: Budget, device: torch.device) -> None:
        self._costs = [
            _DeviceCost(budget.cost.products(limit.metric), device) for limit in budget.limits
        ]
        self._parts = [DeviceBudget(part, device) for part in budget.parts]
        self._in_scope = torch.from_numpy(budget.in_scope).to(device)
        self._channels = torch.from_numpy(budget.cost.channels).to(device)
        self._group = torch.from_numpy(budget.group_of_channel).to(device)
        limit = budget.cost.channels.astype("int64") - budget.floor
        self._limit = torch.from_numpy(limit).to(device)
        self._blocks = None if budget.widths.free else Blocks(budget.widths, device)
        self.saving = torch.from_numpy(budget.saving).to(device)
        self.dense, self.counts = (
            torch.from_numpy(costs).double().to(device) for costs in (budget.dense, budget.counts)
        )

    def choose(
        self, scores: Float[Tensor, " channels"], counts: Float[Tensor, " limits"]
    ) -> Bool[Tensor, " channels"]:
        """Return the channels to zero: lowest scores first, until the rest costs no more.

        Where widths are not free, channels have the scores of their blocks, but the last block may
        go in part.

        Args:
            scores: of every channel; infinite ones stay.
            counts: the costs to come down to.
        """
        if self._parts:
            chosen = [
                part.choose(scores, counts[at : at + 1]) for at, part in enumerate(self._parts)
            ]
            return torch.stack(chosen).any(0)
        worth, order = self._sorted(torch.where(self._in_scope, scores, torch.inf))
        groups = self._group[order]
        removable = (self._rank(groups) < self._limit[groups]) & torch.isfinite(worth)
        place = removable.cumsum(0)  # counted from 1
        low = torch.zeros((), dtype=torch.int64, device=scores.device)
        width = len(order) + 1
        at_once = torch.arange(1, _AT_ONCE + 1, device=scores.device)
        for _ in range(math.ceil(math.log(width) / math.log(_AT_ONCE))):
            # The answer is in [low, low + width). Prefixes end at the parts' last members.
            width = math.ceil(width / _AT_ONCE)
            ends = low + at_once * width - 1
            gone = self._counts(groups, removable & (place <= ends.unsqueeze(1)))
            enough = (self._cost(self._channels - gone) <= counts.unsqueeze(1)).all(0)
            low = low + width * (~enough[:-1]).sum()
        zero = torch.zeros_like(removable)
        zero[order] = removable & (place <= low)
        return zero

    def _sorted(
        self, scores: Float[Tensor, " channels"]
    ) -> tuple[Float[Tensor, " channels"], Int[Tensor, " channels"]]:
        """Return ascending scores, those of the blocks where there are some, and whose they are."""
        if self._blocks is None:
            return scores.sort(stable=True)
        worth, number = self._blocks(scores)
        in_blocks = number.argsort(stable=True)
        ascending, order = worth[in_blocks].sort(stable=True)
        return ascending, in_blocks[order]

    def _rank(self, groups: Int[Tensor, " channels"]) -> Int[Tensor, " channels"]:
        """Return how many of the same group come before."""
        by_group = groups.argsort(stable=True)
        sizes = self._channels.long()
        starts = (sizes.cumsum(0) - sizes)[groups[by_group]]
        rank = torch.empty_like(groups)
        rank[by_group] = torch.arange(len(groups), device=groups.device) - starts
        return rank

    def _counts(
        self, groups: Int[Tensor, " channels"], gone: Bool[Tensor, "prefixes channels"]
    ) -> Float[Tensor, "prefixes groups"]:
        """Return how many channels of each group are gone; whole numbers, so in any order."""
        out = self._channels.new_zeros(len(gone), len(self._channels))
        return out.index_add_(1, groups, gone.to(out))

    def _cost(self, kept: Float[Tensor, "prefixes groups"]) -> Float[Tensor, "limits prefixes"]:
        return torch.stack([cost(kept) for cost in self._costs])


class _DeviceCost:
    """`Products` in tensor operations."""

    def __init__(self, products: Products, device: torch.device) -> None:
        self._constant = torch.from_numpy(products.constant).to(device)
        self._slope = torch.from_numpy(products.slope).to(device)
        self._coefficient = torch.from_numpy(products.coefficient).to(device)
        ends = [*products.first_factor[1:].tolist(), products.constant.size]
        lengths = [end - start for start, end in zip(products.first_factor, ends, strict=True)]
        self._lengths = torch.tensor(lengths, device=device)

    def __call__(self, kept: Float[Tensor, "prefixes groups"]) -> Float[Tensor, " prefixes"]:
        factors = self._constant.unsqueeze(1) + self._slope @ kept.T
        products = torch.segment_reduce(factors, "prod", lengths=self._lengths, unsafe=True)
        return (self._coefficient @ products).round()
