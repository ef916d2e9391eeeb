"""The penalties that take part in a step, and their solution."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ramda_cli.optimizers.penalty import PenalizedParameter, PenaltyLayout
from ramda_cli.optimizers.shards import common_group, rows_here
from ramda_cli.optimizers.thresholds import ThresholdRule, ZeroTest
from ramda_cli.subproblem import (
    CellIndex,
    Groups,
    Member,
    Problem,
    Solver,
    index_cells,
)


@dataclass(frozen=True, eq=False)
class Solutions:
    """What is kept of the last solution, from one step to the next.

    Attributes:
        norms: ‖p‖ of each channel, 0 iff it is zero; the last one where idle.
        ratios: where to look for L/‖p‖ in the next step; 0 or infinite where nobody knows.
    """

    norms: Float[Tensor, " channels"]
    ratios: Float[Tensor, " channels"]

    @classmethod
    def unsolved(cls, channels: int, dtype: torch.dtype, device: torch.device) -> "Solutions":
        """Return what is kept before the first step: nothing is zero, nothing known."""
        tiny = torch.finfo(dtype).tiny
        norms = torch.full((channels,), tiny, dtype=dtype, device=device)
        return cls(norms, torch.zeros_like(norms))

    def copy_(self, other: "Solutions") -> None:
        """Take over other values."""
        self.norms.copy_(other.norms)
        self.ratios.copy_(other.ratios)


@dataclass(frozen=True, eq=False)
class ActivePenalties:
    """The penalties all of whose parameters have a gradient; the others are idle.

    A parameter without a gradient would have w = eps x₀ and soon pull its channel to zero, so the
    channels of an idle penalty are left as they are.

    Attributes:
        members: names of the parameters that have active channels, in the order of `index`.
        parts: what each of them has in the channels.
        index: their map from cells to channels; none if there are no members.
        held: per parameter, the dimension and the positions that idle channels own.
        idle: channels of idle penalties.
        any_idle: whether there are such.
        sizes: penalized entries of each channel.
        weights: λ of each channel.
        gammas: γ of each channel; infinite for group lasso.
    """

    members: tuple[str, ...]
    parts: tuple[Member, ...]
    index: CellIndex | None
    held: Mapping[str, tuple[int, Int[Tensor, " positions"]]]
    idle: Bool[Tensor, " channels"]
    any_idle: bool
    sizes: Float[Tensor, " channels"]
    weights: Float[Tensor, " channels"]
    gammas: Float[Tensor, " channels"]

    def solve_(
        self,
        w: Sequence[Tensor],
        d: Sequence[Tensor],
        *,
        factors: Sequence[float],
        scale: float,
        rule: ThresholdRule,
        solver: Solver,
        last: Solutions,
        gradients: Sequence[Tensor],
        iterates: Sequence[Tensor],
    ) -> tuple[Solutions, Float[Tensor, ""]]:
        """Overwrite w of each member by its part of the solution, and return the certificate too.

        Args:
            w: D x₀ - v of each member.
            d: diagonal of D of each member.
            factors: `scale` over the member's own.
            scale: α.
            rule: decides zero set and shrinkage.
            solver: solves for the other channels.
            last: of the previous step.
            gradients: of each member, with any strides.
            iterates: of each member, before the step, with any strides.
        """
        index = self.index
        if index is None:
            return last, last.norms.new_zeros(())
        groups = Groups(index, w, d, factors=factors)
        moments = groups.normalize_()

        def laid_out(values: Sequence[Tensor]) -> list[Tensor]:
            pairs = zip(values, w, strict=True)
            return [torch.empty_like(like).copy_(each) for each, like in pairs]

        def change() -> Float[Tensor, " channels"]:
            return index.inner_products(laid_out(gradients), laid_out(iterates))

        crit = moments.norm * moments.scale / self.sizes.sqrt()
        crit = crit.masked_fill(self.idle, torch.inf)
        threshold = rule(ZeroTest(crit, self.sizes, last.norms == 0, scale, change))
        shrinkage = threshold.shrinkage / moments.scale
        # An idle channel has no entries here: its norm is 0, so it is skipped as a zero one is.
        zero = threshold.zero | (moments.norm <= shrinkage)
        solution = solver.solve_(
            Problem(groups, moments, shrinkage, zero, last.norms, lambda: laid_out(iterates))
        )
        norms = torch.where(self.idle, last.norms, solution.norms)
        ratios = torch.where(self.idle, last.ratios, solution.ratios)
        return Solutions(norms, ratios), solution.certificate


def select_active(
    layout: PenaltyLayout, tensors: Mapping[str, Tensor], parameters: Mapping[str, Tensor]
) -> ActivePenalties:
    """Find the active penalties.

    Args:
        layout: all penalties.
        tensors: for each parameter with a gradient, a tensor with the shape, strides and device
            of its state.
        parameters: by name; of sharded ones `tensors` are the rows that are here.
    """
    idle = {
        number
        for part in layout.parameters
        if part.name not in tensors
        for number in part.penalties
    }
    moving = [part for part in layout.parameters if part.name in tensors]
    idle_channels = np.isin(layout.penalty_of_channel, sorted(idle))
    active = [part for part in moving if not idle.issuperset(part.penalties)]
    members = [
        _member(part, tensors[part.name], owner_here(part, parameters[part.name]), idle_channels)
        for part in active
    ]
    group = common_group(parameters[part.name] for part in active)
    held = {}
    for part in moving:
        owner = owner_here(part, parameters[part.name])
        positions = np.flatnonzero((owner >= 0) & idle_channels[owner])
        if positions.size:
            device = tensors[part.name].device
            held[part.name] = part.dim, torch.from_numpy(positions).to(device)
    first = next(iter(tensors.values()))
    return ActivePenalties(
        tuple(part.name for part in active),
        tuple(members),
        index_cells(members, layout.channels, group) if members else None,
        held,
        torch.from_numpy(idle_channels).to(first.device),
        bool(idle_channels.any()),
        torch.from_numpy(layout.sizes).to(first),
        torch.from_numpy(layout.weights).to(first),
        torch.from_numpy(layout.gammas).to(first),
    )


def owner_here(
    part: PenalizedParameter, parameter: Tensor
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the owner of each position that this process holds."""
    rows = rows_here(parameter)
    if rows is None or part.dim != 0:
        return part.owner
    return part.owner[rows.first : rows.last]


def _member(
    part: PenalizedParameter,
    like: Tensor,
    owner: np.ndarray[tuple[int], np.dtype[np.int64]],
    idle_channels: np.ndarray[tuple[int], np.dtype[np.bool_]],
) -> Member:
    owned = (owner >= 0) & ~idle_channels[owner]
    owner = np.where(owned, owner, len(idle_channels))
    return Member(like, part.dim, torch.from_numpy(owner).to(like.device))
