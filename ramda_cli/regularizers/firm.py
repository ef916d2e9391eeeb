"""The firm threshold on row norms (Gao and Bruce, 1997), of which group lasso's is the limit γ → ∞.

With a threshold L, a row x becomes 0 where ‖x‖ <= L, stays where ‖x‖ >= γ L, and in between has
the norm (‖x‖ - L) / (1 - 1/γ).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def check_weight(weight: float) -> None:
    """Raise ValueError where a regularization weight is not finite and >= 0."""
    if not 0.0 <= weight < math.inf:
        raise ValueError(f"weight must be finite and >= 0, got {weight}")


def row_weight(weight: float, x: Float[Tensor, "groups size"]) -> float:
    """Return λ √size."""
    return weight * math.sqrt(x.shape[1])


def firm_shrinkage(
    size: Float[Tensor, "..."], threshold: Float[Tensor, "..."], gamma: Tensor | float
) -> Float[Tensor, "..."]:
    """Return by how much a size is shrunk: L - (size - L)/(γ - 1), within [0, L].

    Args:
        size: >= 0; may be infinite.
        threshold: L >= 0.
        gamma: > 1; the shrinkage is L where it is infinite.
    """
    # An infinite size over an infinite γ would be NaN.
    excess = (size.clamp_max(torch.finfo(size.dtype).max) - threshold).clamp_min(0.0)
    return (threshold - excess / (gamma - 1.0)).clamp_min(0.0)


def firm_threshold(
    x: Float[Tensor, "groups size"], threshold: Float[Tensor, "groups 1"], gamma: float
) -> Float[Tensor, "groups size"]:
    """Shrink each row's norm, which stops at exactly zero."""
    norms = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    left = (norms - firm_shrinkage(norms, threshold, gamma)).clamp_min(0.0)
    # Only rows that are already zero meet the clamp: 0/tiny is 0, 0/0 would be NaN.
    return x * (left / norms.clamp_min(torch.finfo(x.dtype).tiny))
