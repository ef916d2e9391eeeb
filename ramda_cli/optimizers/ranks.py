"""Solutions whose ranks a rule decides, in place of a nuclear norm's weight.

The solution of a rank r is the point X that minimises the subproblem without any regularizer, made
of rank r in the metric D ≈ a bᵀ that the rule gives: with Y = √a ∘ X ∘ √b and its leading left
singular vectors U,

    P = (U / √a) (U ∘ √a)ᵀ X,

the nearest matrix of rank r in that metric. b decides what U is and is in nothing else. A matrix
with more rows than columns is treated as its transpose. Singular values are taken in the steps that
the rule says; in between U stays.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ramda_cli.optimizers.low_rank import full_rank, project
from ramda_cli.optimizers.moving import Moving
from ramda_cli.regularizers.singular_values import symmetric_eigen


class RankRule(Protocol):
    """Decides the ranks of one step."""

    def take(self, gradients: Mapping[str, Tensor]) -> None:
        """Take the gradients of a step, by parameter."""
        ...

    @property
    def due(self) -> bool:
        """Whether the ranks are decided in this step."""
        ...

    def metric(self, name: str) -> tuple[Float[Tensor, " rows"], Float[Tensor, " cols"]]:
        """Return √a > 0 and √b >= 0 of a parameter."""
        ...

    def choose(self, squares: Mapping[str, Float[Tensor, " n"]]) -> Mapping[str, int]:
        """Return ranks for these squares of the singular values of each Y, the largest first."""
        ...


def truncate_matrices(
    names: Sequence[str],
    members: Sequence[Moving],
    w: Sequence[Tensor],
    d: Sequence[Tensor],
    rule: RankRule,
) -> list[Tensor]:
    """Return the solution of each member, of the rank that the rule gives it.

    Args:
        names: of penalized parameters.
        members: these parameters.
        w: D x₀ - v of each.
        d: D of each.
        rule: of the ranks.
    """
    rule.take({name: member.gradient for name, member in zip(names, members, strict=True)})
    points = [numerator / diagonal for numerator, diagonal in zip(w, d, strict=True)]
    if rule.due:
        factors = leading_factors(dict(zip(names, points, strict=True)), rule)
        for name, member, point in zip(names, members, points, strict=True):
            state = member.state
            for key in ("low_rank_left", "low_rank_right"):
                state.pop(key, None)
            state["low_rank_rank"] = torch.tensor(full_rank(point))
            if name in factors:
                state["low_rank_left"], state["low_rank_right"] = factors[name]
                state["low_rank_rank"] = torch.tensor(factors[name][0].shape[1])
    return [
        project(member.state, point) if "low_rank_left" in member.state else point
        for member, point in zip(members, points, strict=True)
    ]


def leading_factors(
    points: Mapping[str, Tensor], rule: RankRule
) -> dict[str, tuple[Float[Tensor, "n rank"], Float[Tensor, "n rank"]]]:
    """Return U / √a and U ∘ √a of the points of which the rule leaves ranks out, by parameter."""
    squares: dict[str, Tensor] = {}
    vectors: dict[str, Tensor] = {}
    scales: dict[str, Tensor] = {}
    for name, point in points.items():
        rows, cols = (each.to(point) for each in rule.metric(name))
        weighted = rows[:, None] * point.flatten(1) * cols
        tall = weighted.shape[0] > weighted.shape[1]
        short = torch.nan_to_num(weighted.mT if tall else weighted, posinf=0.0, neginf=0.0)
        values, found = symmetric_eigen(short @ short.mT)
        squares[name], vectors[name] = values.flip(0).clamp_min(0.0), found.flip(1)
        scales[name] = (cols if tall else rows)[:, None]
    return {
        name: (
            (vectors[name][:, :rank] / scales[name]).contiguous(),
            (vectors[name][:, :rank] * scales[name]).contiguous(),
        )
        for name, rank in rule.choose(squares).items()
        if name in points and rank < full_rank(points[name])
    }
