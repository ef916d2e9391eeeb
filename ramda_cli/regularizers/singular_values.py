"""Singular-value thresholding: X = U diag(σ) Vᵀ becomes U diag(max(0, σ - L)) Vᵀ.

It needs no decomposition of X itself. With the eigenvalues σ² and eigenvectors U of the smaller
Gram matrix, G = X Xᵀ for a wide X, it is

    U diag(max(0, 1 - L/σ)) Uᵀ X.

A Gram matrix squares the condition: σ² comes with an error of about ε σ_max². Where that leaves no
doubt which σ are above L, and changes little of what becomes of them, the precision of X is enough.
A matrix of which it leaves a doubt is done again: in float64, in which σ is known as well as an X
in single precision says it, and one that is of float64 by a decomposition of X itself.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_DOUBT = 16.0
"""Roundings of σ_max² by which σ² may be wrong."""

_ACCURACY = 1e-6
"""Of σ_max: what the thresholding may be wrong by."""

_LARGE = 1e8
"""Entries beyond it, or below its inverse, have fourth powers that single precision cannot hold."""


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
    largest = torch.linalg.vector_norm(flat, torch.inf, dim=(-2, -1))
    finite = torch.isfinite(largest) & torch.isfinite(limits)
    if not bool((finite & (largest < _LARGE) & (largest > 1 / _LARGE)).all()):
        return _rescaled(x, threshold, torch.where(finite & (largest > 0), largest, 1.0), finite)
    wide = flat.mT if flat.shape[-2] > flat.shape[-1] else flat
    values, left = _of_gram(wide)
    doubtful = ~_is_certain(values, limits)
    matrix, rank, nuclear = _shrink(wide, limits, values, left)
    if bool(doubtful.any()):
        again = wide[doubtful].double()
        found = _decompose(again) if x.dtype == torch.float64 else _of_gram(again)
        shrunk, rank[doubtful], norms = _shrink(again, limits[doubtful].double(), *found)
        matrix[doubtful], nuclear[doubtful] = shrunk.to(x.dtype), norms.to(x.dtype)
    if flat.shape[-2] > flat.shape[-1]:
        matrix = matrix.mT.contiguous()
    shape = threshold.shape
    return Thresholded(matrix.view(x.shape), rank.view(shape), nuclear.view(shape))


def _rescaled(x: Tensor, threshold: Tensor, unit: Tensor, finite: Tensor) -> Thresholded:
    """Threshold what is left of very large, very small and not finite matrices in other units."""
    by, known = unit.view(threshold.shape), finite.view(threshold.shape)
    whole = known[..., None, None]
    inner = torch.where(whole, x, 0.0) / by[..., None, None]
    # A matrix of zeros keeps its rank of 0 whatever is added to it in this one place.
    empty = ~(inner != 0).any(-1).any(-1)
    inner[..., 0, 0] += empty
    limits = torch.where(known, threshold, 0.0) / by
    found = threshold_singular_values(inner, torch.where(empty, 2.0, limits))
    return Thresholded(
        torch.where(whole, found.matrix * by[..., None, None], torch.nan),
        torch.where(known, found.rank, 0),
        torch.where(known, found.nuclear_norm * by, torch.nan),
    )


def _shrink(
    wide: Tensor, limit: Tensor, values: Tensor, left: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the matrices, ranks and nuclear norms after the threshold; values are ascending."""
    kept = values > limit[:, None]
    shrunk = torch.where(kept, values - limit[:, None], 0.0)
    rank = kept.sum(-1)
    n, most = left.shape[-1], int(rank.max())
    left = left[:, :, n - most :]
    factor = (shrunk / torch.where(kept, values, 1.0))[:, None, n - most :]
    if 2 * most * wide.shape[-1] < n * (most + wide.shape[-1]):
        matrix = (left * factor) @ (left.mT @ wide)
    else:
        matrix = ((left * factor) @ left.mT) @ wide
    return matrix, rank, shrunk.sum(-1)


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


def _is_certain(values: Tensor, limit: Tensor) -> Tensor:
    """Tell of each matrix whether the roundings of a Gram matrix change next to nothing."""
    largest = values[:, -1:]
    doubt = _DOUBT * torch.finfo(values.dtype).eps * largest.square()
    squares, edge = values.square(), limit[:, None].square()
    clear = ((squares - edge).abs() > doubt).all(-1)
    wrong = torch.where(squares > edge, limit[:, None] * doubt / squares, 0.0)
    return clear & (wrong <= _ACCURACY * largest).all(-1)


def _of_gram(wide: Tensor) -> tuple[Tensor, Tensor]:
    """Return σ, ascending, and U of X from X Xᵀ."""
    squares, left = symmetric_eigen(wide @ wide.mT)
    return squares.clamp_min(0.0).sqrt(), left


def _decompose(wide: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same from a singular value decomposition."""
    left, values, _ = torch.linalg.svd(wide, full_matrices=False)
    return values.flip(-1), left.flip(-1)
