"""Singular-value thresholding: X = U diag(σ) Vᵀ becomes U diag(max(0, σ - L)) Vᵀ.

It needs no decomposition of X itself. With the eigenvalues σ² and eigenvectors U of the smaller
Gram matrix, G = X Xᵀ for a wide X, it is

    U diag(max(0, 1 - L/σ)) Uᵀ X.

A Gram matrix squares the condition: σ comes with an error of about ε σ_max²/σ. Where L is a large
share of σ_max, smaller σ do not count, and the precision of X is enough; below that the Gram matrix
is formed in float64, and at last X is decomposed itself.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_GRAM_SHARE = 1e-2
"""Of the Frobenius norm, above which a threshold bears a Gram matrix in the precision of X."""

_WIDE_GRAM_SHARE = 1e-5
"""Above which one in float64 does."""


@dataclass(frozen=True, eq=False)
class Thresholded:
    """Matrices whose singular values were shrunk.

    Attributes:
        matrix: of rank `rank`, up to rounding.
        rank: of each matrix, singular values above the threshold.
        nuclear_norm: of each matrix.
    """

    matrix: Float[Tensor, "*batch rows cols"]
    rank: Int[Tensor, "*batch"]
    nuclear_norm: Float[Tensor, "*batch"]


def threshold_singular_values(
    x: Float[Tensor, "*batch rows cols"], threshold: Float[Tensor, "*batch"]
) -> Thresholded:
    """Shrink every singular value by the threshold of its matrix, stopping at exactly zero.

    Matrices that are not finite become NaN, of rank 0.

    Args:
        x: one matrix, or several of the same shape.
        threshold: L >= 0, one for each matrix.
    """
    flat, limits = x.reshape(-1, *x.shape[-2:]), threshold.reshape(-1)
    largest = flat.abs().amax((-2, -1))
    finite = torch.isfinite(largest) & torch.isfinite(limits)
    # Squares of entries beyond 1e19 would overflow, and those of small ones vanish.
    unit = torch.where(finite & (largest > 0), largest, 1.0)
    ordered = torch.where(finite[:, None, None], flat, 0.0) / unit[:, None, None]
    limit = torch.where(finite, limits, 0.0) / unit
    share = limit / torch.linalg.matrix_norm(ordered).clamp_min(1.0)
    narrow, wide = share >= _GRAM_SHARE, share >= _WIDE_GRAM_SHARE
    matrix, nuclear = torch.empty_like(ordered), torch.empty_like(limit)
    rank = torch.empty_like(limit, dtype=torch.int64)
    for chosen, decompose, precision in (
        (narrow, _gram, x.dtype),
        (wide & ~narrow, _gram, torch.float64),
        (~wide, _decompose, torch.float64),
    ):
        if bool(chosen.any()):
            each = ordered[chosen].to(precision)
            found = _shrink(each, limit[chosen].to(precision), *decompose(each))
            matrix[chosen], nuclear[chosen] = found[0].to(x.dtype), found[2].to(x.dtype)
            rank[chosen] = found[1]
    return Thresholded(
        torch.where(finite[:, None, None], matrix * unit[:, None, None], torch.nan).view(x.shape),
        torch.where(finite, rank, 0).view(threshold.shape),
        torch.where(finite, nuclear * unit, torch.nan).view(threshold.shape),
    )


def _shrink(
    x: Tensor, limit: Tensor, left: Tensor, values: Tensor, right: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the matrices, ranks and nuclear norms after the threshold."""
    kept = values > limit[..., None]
    shrunk = torch.where(kept, values - limit[..., None], 0.0)
    factor = torch.where(kept, shrunk / torch.where(kept, values, 1.0), 0.0)
    matrix = (left * factor[..., None, :]) @ right
    if x.shape[-2] > x.shape[-1]:
        matrix = matrix.mT
    return matrix, kept.sum(-1), shrunk.sum(-1)


def leading_singular_values(
    x: Float[Tensor, "rows cols"], rank: int
) -> tuple[Float[Tensor, "rows rank"], Float[Tensor, " rank"], Float[Tensor, "rank cols"]]:
    """Return U, σ and Vᵀ of the nearest matrix of a rank, in float64 (Eckart and Young, 1936)."""
    left, values, right = torch.linalg.svd(x.double(), full_matrices=False)
    return left[:, :rank], values[:rank], right[:rank]


def symmetric_eigen(
    gram: Float[Tensor, "*batch n n"],
) -> tuple[Float[Tensor, "*batch n"], Float[Tensor, "*batch n n"]]:
    """Return eigenvalues, ascending, and eigenvectors of finite Gram matrices.

    Some LAPACKs return NaN where entries are subnormal: entries too small to count are made zero,
    and what still is not finite is decomposed in float64.
    """
    largest = gram.abs().amax((-2, -1), keepdim=True)
    least = largest * torch.finfo(gram.dtype).tiny ** 0.5
    clean = torch.where(gram.abs() > least, gram, 0.0)
    values, vectors = torch.linalg.eigh(clean)
    if gram.dtype != torch.float64 and not bool(torch.isfinite(vectors).all()):
        values, vectors = (each.to(gram.dtype) for each in torch.linalg.eigh(clean.double()))
    return values, vectors


def _gram(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return U, σ and Uᵀ X of a wide X, or of the transpose of a tall one."""
    wide = x.mT if x.shape[-2] > x.shape[-1] else x
    squares, left = symmetric_eigen(wide @ wide.mT)
    return left, squares.clamp_min(0.0).sqrt(), left.mT @ wide


def _decompose(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same from a singular value decomposition."""
    wide = x.mT if x.shape[-2] > x.shape[-1] else x
    left, values, right = torch.linalg.svd(wide, full_matrices=False)
    return left, values, values[..., None] * right
