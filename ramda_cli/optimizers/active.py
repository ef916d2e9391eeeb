"""The penalties that take part in a step, and their solution."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ramda_cli.optimizers.penalty import PenalizedParameter, PenaltyLayout
from ramda_cli.optimizers.thresholds import ThresholdRule, ZeroTest
from ramda_cli.subproblem import (
    CellIndex,
    Groups,
    Member,
    Moments,
    index_cells,
    newton_from_zero,
    solve_secular,
)


@dataclass(frozen=True, eq=False)
class Solved:
    """What a step found out about the channels.

    Attributes:
        norms: ‖p‖ of each channel's solution, 0 iff it is zero; the last one where idle.
        certificate: norm of the smallest subgradient of the subproblem at the solution.
    """

    norms: Float[Tensor, " channels"]
    certificate: Float[Tensor, ""]


@dataclass(frozen=True, eq=False)
class ActivePenalties:
    """The penalties all of whose parameters have a gradient; the others are idle.

    A parameter without a gradient would have w = eps x₀ and soon pull its channel to zero, so the
    channels of an idle penalty are left as they are.

    Attributes:
        members: names of the parameters that have active channels, in the order of `index`.
        index: their map from cells to channels; none if there are no members.
        held: per parameter, the dimension and the positions that idle channels own.
        idle: channels of idle penalties.
        sizes: penalized entries of each channel.
        weights: λ of each channel.
    """

    members: tuple[str, ...]
    index: CellIndex | None
    held: Mapping[str, tuple[int, Int[Tensor, " positions"]]]
    idle: Bool[Tensor, " channels"]
    sizes: Float[Tensor, " channels"]
    weights: Float[Tensor, " channels"]

    def solve_(
        self,
        w: Sequence[Tensor],
        d: Sequence[Tensor],
        *,
        factors: Sequence[float],
        scale: float,
        rule: ThresholdRule,
        last_norms: Float[Tensor, " channels"],
        gradients: Sequence[Tensor],
        iterates: Sequence[Tensor],
    ) -> Solved:
        """Overwrite w of each member by its part of the solution.

        Args:
            w: D x₀ - v of each member.
            d: diagonal of D of each member.
            factors: `scale` over the member's own sum of step sizes.
            scale: α.
            rule: decides zero set and shrinkage.
            last_norms: as the previous step returned them.
            gradients: of each member, with any strides.
            iterates: of each member, before the step, with any strides.
        """
        index = self.index
        if index is None:
            return Solved(last_norms, last_norms.new_zeros(()))
        groups = Groups(index, w, d, factors=factors)
        moments = groups.normalize_()

        def change() -> Float[Tensor, " channels"]:
            laid_out = [
                [torch.empty_like(like).copy_(each) for each, like in zip(some, w, strict=True)]
                for some in (gradients, iterates)
            ]
            return index.inner_products(*laid_out)

        zero, shrinkage = self._threshold(moments, scale, rule, last_norms == 0, change)
        root = solve_secular(
            groups.secular_sums,
            lower=newton_from_zero(moments.norm, moments.curvature, shrinkage),
            guess=last_norms / moments.scale,
            shrinkage=shrinkage,
            zero=zero,
        )
        # 0/r, and not 0/0, where nothing shrinks: `r` is positive for every channel.
        groups.solve_(torch.where(zero, torch.inf, shrinkage / root.r), moments.scale)
        tiny = torch.finfo(root.r.dtype).tiny
        norms = torch.where(zero, 0.0, (root.r * moments.scale).clamp_min(tiny))
        certificate = torch.linalg.vector_norm(root.residual * moments.scale)
        return Solved(torch.where(self.idle, last_norms, norms), certificate)

    def _threshold(
        self,
        moments: Moments,
        scale: float,
        rule: ThresholdRule,
        was_zero: Bool[Tensor, " channels"],
        change: Callable[[], Float[Tensor, " channels"]],
    ) -> tuple[Bool[Tensor, " channels"], Float[Tensor, " channels"]]:
        """Return the zero set and the shrinkage in the units of the moments."""
        crit = moments.norm * moments.scale / self.sizes.sqrt()
        crit = crit.masked_fill(self.idle, torch.inf)
        threshold = rule(ZeroTest(crit, self.sizes, was_zero, scale, change))
        shrinkage = threshold.shrinkage / moments.scale
        # An idle channel has no entries here: its norm is 0, so it is skipped as a zero one is.
        return threshold.zero | (moments.norm <= shrinkage), shrinkage


def select_active(layout: PenaltyLayout, tensors: Mapping[str, Tensor]) -> ActivePenalties:
    """Find the active penalties.

    Args:
        layout: all penalties.
        tensors: for each parameter with a gradient, a tensor with the shape, strides and device
            of its state.
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
    members = [_member(part, tensors[part.name], idle_channels) for part in active]
    held = {}
    for part in moving:
        positions = np.flatnonzero((part.owner >= 0) & idle_channels[part.owner])
        if positions.size:
            device = tensors[part.name].device
            held[part.name] = part.dim, torch.from_numpy(positions).to(device)
    first = next(iter(tensors.values()))
    return ActivePenalties(
        tuple(part.name for part in active),
        index_cells(members, layout.channels) if members else None,
        held,
        torch.from_numpy(idle_channels).to(first.device),
        torch.from_numpy(layout.sizes).to(first),
        torch.from_numpy(layout.weights).to(first),
    )


def _member(
    part: PenalizedParameter,
    like: Tensor,
    idle_channels: np.ndarray[tuple[int], np.dtype[np.bool_]],
) -> Member:
    owned = (part.owner >= 0) & ~idle_channels[part.owner]
    owner = np.where(owned, part.owner, len(idle_channels))
    return Member(like, part.dim, torch.from_numpy(owner).to(like.device))
