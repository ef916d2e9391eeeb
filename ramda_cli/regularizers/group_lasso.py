"""Group lasso: ψ(x) = λ √size · Σ_i ‖x_i‖₂, one group per row."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class GroupLasso:
    """Sum of row norms, which drives whole rows to exactly zero.

    The factor √size makes one `weight` comparable across groups of different size
    (Yuan & Lin, 2006).

    Attributes:
        weight: regularization weight λ, finite and >= 0.
    """

    weight: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight < math.inf:
            raise ValueError(f"weight must be finite and >= 0, got {self.weight}")

    @property
    def gamma(self) -> float:
        """Infinite: group lasso is group MCP whose slope never falls."""
        return math.inf

    def value(self, x: Float[Tensor, "groups size"]) -> Float[Tensor, ""]:
        """Return ψ(x)."""
        return self._row_weight(x) * torch.linalg.vector_norm(x, dim=1).sum()

    def prox(
        self, x: Float[Tensor, "groups size"], step: Float[Tensor, "groups 1"]
    ) -> Float[Tensor, "groups size"]:
        """Shrink each row's norm by `step`·λ√size, stopping at exactly zero."""
        norms = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        shrunk = (norms - step * self._row_weight(x)).clamp_min(0.0)
        # Only rows that are already zero meet the clamp: 0/tiny is 0, 0/0 would be NaN.
        return x * (shrunk / norms.clamp_min(torch.finfo(x.dtype).tiny))

    def _row_weight(self, x: Tensor) -> float:
        return self.weight * math.sqrt(x.shape[1])
