"""Group MCP: a group lasso that leaves large groups alone, one group per row.

Zhang's minimax concave penalty (Annals of Statistics, 2010) of each row's norm r = ‖x_i‖₂, with
λ_i = λ √size and γ measured in units of the step t of the proximal operator,

    ψ_t(x) = Σ_i { λ_i r - r² / (2 γ t)  for r <= γ t λ_i,   ½ γ t λ_i²  beyond },

so that its slope falls from λ_i at r = 0 to nothing at the knee r = γ t λ_i. The problem of the
proximal operator, min_z ψ_t(z) + ‖z - x‖² / (2 t), is strongly convex for every t because γ > 1,
with modulus (1 - 1/γ)/t. Its solution is the firm threshold (Gao and Bruce, 1997): with L = t λ_i,

    z_i = 0                              for ‖x_i‖ <= L,
    ‖z_i‖ = (‖x_i‖ - L) / (1 - 1/γ)      up to γ L,
    z_i = x_i                            beyond.

The rows that are zero are those of group lasso; γ → ∞ is group lasso.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ramda_cli.regularizers.firm import check_weight, firm_threshold, row_weight


@dataclass(frozen=True)
class GroupMCP:
    """Minimax concave penalty of row norms: zeros as group lasso's, large rows not shrunk.

    The factor √size makes one `weight` comparable across groups of different size. γ is relative
    to the step, as in the adaptive rescaling of Breheny and Huang (Annals of Applied Statistics,
    2011; for groups Statistics and Computing, 2015), which keeps every step's problem convex and
    needs no knowledge of the weights' scale.

    In an optimizer, with w = D x₀ - v and L = α λ √size, a channel is zero iff ‖w‖ <= L, exactly
    as under group lasso. Any other is the exact solution p of the convex group lasso problem

        min_p ½ pᵀ D p - wᵀ p + L' ‖p‖₂,   L' = max(0, L - (‖w‖ - L)/(γ - 1)),

    hence w/D, as if nothing were penalized, from ‖w‖ = γ L on. Where D = δ I within the channel
    (in RMDA and ProxSGD, with one lr) p is the exact minimiser of the step's own nonconvex problem,
    whose penalty has its knee at ‖p‖ = γ L/δ. Where D varies within the channel (RAMDA, ProxGen), p
    is between zero and γ L the minimiser of no fixed penalty: L' depends on ‖w‖, not on ‖p‖.

    Over a long stage of dual averaging L' tends to L: docs/optimizer.md says what this means.

    Attributes:
        weight: regularization weight λ, finite and >= 0.
        gamma: γ, finite and >= 1.01; the smaller, the sooner a row is no longer shrunk.
    """

    weight: float
    gamma: float = 3.0

    def __post_init__(self) -> None:
        check_weight(self.weight)
        # γ - 1 must survive the rounding of low precision.
        if not 1.01 <= self.gamma < math.inf:
            raise ValueError(f"gamma must be finite and >= 1.01, got {self.gamma}")

    def value(
        self, x: Float[Tensor, "groups size"], step: Float[Tensor, "groups 1"] | float = 1.0
    ) -> Float[Tensor, ""]:
        """Return ψ_t(x), for the step t of each row.

        Args:
            x: one group per row.
            step: > 0, the unit of γ.
        """
        weight = row_weight(self.weight, x)
        norms = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        knee = self.gamma * step * weight
        # Beyond the knee the value is that at the knee.
        inside = torch.minimum(norms, torch.as_tensor(knee, dtype=x.dtype, device=x.device))
        return (weight * inside - inside.square() / (2.0 * self.gamma * step)).sum()

    def prox(
        self, x: Float[Tensor, "groups size"], step: Float[Tensor, "groups 1"]
    ) -> Float[Tensor, "groups size"]:
        """Shrink each row's norm by the firm threshold, which stops at exactly zero."""
        return firm_threshold(x, step * row_weight(self.weight, x), self.gamma)
