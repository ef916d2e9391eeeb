"""Group lasso: ψ(x) = λ √size · Σ_i ‖x_i‖₂, one group per row."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ramda_cli.regularizers.firm import check_weight, firm_threshold, row_weight


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
        check_weight(self.weight)

    @property
    def gamma(self) -> float:
        """Infinite: group lasso is group MCP whose slope never falls."""
        return math.inf

    def value(self, x: Float[Tensor, "groups size"]) -> Float[Tensor, ""]:
        """Return ψ(x)."""
        return row_weight(self.weight, x) * torch.linalg.vector_norm(x, dim=1).sum()

    def prox(
        self, x: Float[Tensor, "groups size"], step: Float[Tensor, "groups 1"]
    ) -> Float[Tensor, "groups size"]:
        """Shrink each row's norm by `step`·λ√size, stopping at exactly zero."""
        return firm_threshold(x, step * row_weight(self.weight, x), self.gamma)
