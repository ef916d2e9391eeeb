"""Nuclear norm: ψ(X) = λ Σ_i σ_i(X), the sum of the singular values of a matrix."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ramda_cli.regularizers.firm import check_weight
from ramda_cli.regularizers.singular_values import threshold_singular_values


@dataclass(frozen=True)
class NuclearNorm:
    """Sum of singular values, which drives a matrix to a lower rank.

    Attributes:
        weight: regularization weight λ, finite and >= 0.
    """

    weight: float

    def __post_init__(self) -> None:
        check_weight(self.weight)

    def value(self, x: Float[Tensor, "rows cols"]) -> Float[Tensor, ""]:
        """Return ψ(x)."""
        return self.weight * torch.linalg.matrix_norm(x, ord="nuc")

    def prox(self, x: Float[Tensor, "rows cols"], step: float) -> Float[Tensor, "rows cols"]:
        """Return argmin_z ψ(z) + ‖z - x‖² / (2 step): singular values shrunk by step·λ.

        Cai, Candès and Shen, "A singular value thresholding algorithm for matrix completion" (SIAM
        Journal on Optimization, 2010), theorem 2.1.
        """
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        threshold = torch.as_tensor(step * self.weight, dtype=wide.dtype, device=x.device)
        return threshold_singular_values(wide, threshold).matrix.to(x.dtype)
