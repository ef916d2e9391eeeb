"""The interface every regularizer implements."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Regularizer(Protocol):
    """A function ψ on matrices, known through its value and proximal operator."""

    def value(self, x: Float[Tensor, "rows cols"]) -> Float[Tensor, ""]:
        """Return ψ(x)."""
        ...

    def prox(
        self, x: Float[Tensor, "rows cols"], step: Float[Tensor, "rows 1"]
    ) -> Float[Tensor, "rows cols"]:
        """Return argmin_z ψ(z) + Σ_i ‖z_i - x_i‖² / (2 step_i), as a new tensor."""
        ...


class GroupRegularizer(Regularizer, Protocol):
    """A regularizer of row norms whose proximal operator is a firm threshold on them."""

    @property
    def weight(self) -> float:
        """λ: the threshold is step·λ√size."""
        ...

    @property
    def gamma(self) -> float:
        """γ > 1: from γ times the threshold on, nothing is shrunk; infinite for group lasso."""
        ...
