"""The group lasso subproblem, reduced to one scalar equation per group.

For one group with w = D x₀ - v, diagonal d > 0 and shrinkage L = α λ √size, the problem

    min_p  ½ pᵀ D p - wᵀ p + L ‖p‖₂

has the solution p = 0 where ‖w‖ <= L. Elsewhere pᵢ = wᵢ / (dᵢ + L/r), where r = ‖p‖ is the root of
the secular equation

    φ(r) = Σ wᵢ² / (dᵢ r + L)² = 1.

φ^(-1/2) is a power mean with negative exponent of increasing affine functions of r, hence concave
and increasing. From any r >= 0 a Newton step on φ^(-1/2) = 1 therefore lands at or left of the
root, and from there the iterates rise to it monotonically and quadratically: neither a bracket nor
a line search is needed. The step from r = 0 costs only ‖w‖² and Σ wᵢ² dᵢ, which the zero test has.

The minimal-norm subgradient at p(r) is L |1 - √φ(r)|: the certificate is a by-product.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MAX_EVALUATIONS = 20
MAX_NEWTON_RAPHSON_EVALUATIONS = 40
# On an accelerator: one for each of the three Newton steps that captured training states need, one
# for the certificate, one to spare.
FIXED_EVALUATIONS = 5
# √φ carries the rounding of a sum; below this another step only moves the last bits.
_TOLERANCE_ULP = 4.0


class SecularSums(Protocol):
    """Sums over each group's entries, wherever these are stored."""

    def __call__(
        self, r: Float[Tensor, " groups"], shrinkage: Float[Tensor, " groups"]
    ) -> tuple[Float[Tensor, " groups"], Float[Tensor, " groups"]]:
        """Return φ = Σ wᵢ²/(dᵢ r + L)² and -φ'/2 = Σ wᵢ² dᵢ/(dᵢ r + L)³."""
        ...


@dataclass(frozen=True, eq=False)
class Root:
    """Solutions of the secular equation.

    Attributes:
        r: ‖p‖ for each group; 1 where the group is zero, so that no division by it fails.
        residual: L |1 - √φ(r)|, the norm of the smallest subgradient; 0 where the group is zero.
    """

    r: Float[Tensor, " groups"]
    residual: Float[Tensor, " groups"]


def newton_from_zero(
    norm: Float[Tensor, " groups"],
    curvature: Float[Tensor, " groups"],
    shrinkage: Float[Tensor, " groups"],
) -> Float[Tensor, " groups"]:
    """Return the Newton step from r = 0, (‖w‖ - L) ‖w‖² / Σ wᵢ² dᵢ, a lower bound of the root.

    It is the root where d is constant, and in particular for a group of one entry.

    Args:
        norm: ‖w‖.
        curvature: Σ wᵢ² dᵢ.
        shrinkage: L.
    """
    tiny = torch.finfo(norm.dtype).tiny
    return (norm - shrinkage) * (norm.square() / curvature.clamp_min(tiny))


def solve_secular(
    sums: SecularSums,
    *,
    lower: Float[Tensor, " groups"],
    guess: Float[Tensor, " groups"],
    shrinkage: Float[Tensor, " groups"],
    zero: Bool[Tensor, " groups"],
) -> Root:
    """Solve φ(r) = 1 for all groups at once; converged groups stay put.

    On a CPU it stops once all have converged. Elsewhere asking would synchronise with the device,
    so the number of evaluations is fixed and `Root.residual` tells what was reached.

    Args:
        sums: evaluates φ and its derivative.
        lower: a lower bound of the root, as from `newton_from_zero`.
        guess: where to start, any r; `lower` where it is smaller.
        shrinkage: L, with 0 <= L < ‖w‖ where the group is not zero.
        zero: groups whose solution is zero; they are skipped.
    """
    on_cpu = lower.device.type == "cpu"
    evaluations = MAX_EVALUATIONS if on_cpu else FIXED_EVALUATIONS
    tolerance = _TOLERANCE_ULP * torch.finfo(lower.dtype).eps
    r = torch.where(zero, 1.0, torch.maximum(lower, guess))
    for remaining in reversed(range(evaluations)):
        phi, slope = sums(r, shrinkage)
        excess = phi.sqrt() - 1.0
        done = zero | (excess.abs() <= tolerance)
        if remaining == 0 or (on_cpu and bool(done.all())):
            break
        r = torch.where(done, r, torch.maximum(lower, r + excess * (phi / slope)))
    return Root(r, torch.where(zero, 0.0, shrinkage * excess.abs()))


def newton_raphson(
    sums: SecularSums,
    *,
    lower: Float[Tensor, " groups"],
    shrinkage: Float[Tensor, " groups"],
    zero: Bool[Tensor, " groups"],
) -> Root:
    """Solve φ(r) = 1 by Newton's method on φ itself.

    φ is convex and decreasing, so the iterates rise to the root, more slowly than those of
    `solve_secular`. From r = 0 the first of them would only grow by half each, for log(‖w‖/L)
    steps. On an accelerator as many evaluations are made as there may be.

    Args:
        sums: evaluates φ and its derivative.
        lower: where to start, a lower bound of the root.
        shrinkage: L, with 0 <= L < ‖w‖ where the group is not zero.
        zero: groups whose solution is zero; they are skipped.
    """
    on_cpu = lower.device.type == "cpu"
    tolerance = _TOLERANCE_ULP * torch.finfo(lower.dtype).eps
    r = torch.where(zero, 1.0, lower)
    for remaining in reversed(range(MAX_NEWTON_RAPHSON_EVALUATIONS)):
        phi, slope = sums(r, shrinkage)
        excess = phi.sqrt() - 1.0
        done = zero | (excess.abs() <= tolerance)
        if remaining == 0 or (on_cpu and bool(done.all())):
            break
        r = torch.where(done, r, r + 0.5 * (phi - 1.0) / slope)
    return Root(r, torch.where(zero, 0.0, shrinkage * excess.abs()))
