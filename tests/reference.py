"""Slow, literal transcriptions that the package is compared with, in float64."""

import math

import torch
from torch import Tensor


def group_lasso_solution(w: Tensor, d: Tensor, shrinkage: float) -> Tensor:
    """Return argmin_p ½ pᵀ D p - wᵀ p + shrinkage ‖p‖₂ by bisection on log r, r = ‖p‖₂."""
    w, d = w.double(), d.double()
    unit = float(w.abs().max())
    if unit == 0.0:
        return torch.zeros_like(w)
    w, shrinkage = w / unit, shrinkage / unit
    if float(w.norm()) <= shrinkage:
        return torch.zeros_like(w)
    # ‖w‖ - L >= min(d) r and <= max(d) r at the root.
    gap = float(w.norm()) - shrinkage
    low, high = math.log(gap / float(d.max())) - 1e-9, math.log(gap / float(d.min())) + 1e-9
    for _ in range(60):
        middle = (low + high) / 2
        if float((w / (d * math.exp(middle) + shrinkage)).norm()) > 1.0:
            low = middle
        else:
            high = middle
    return unit * w / (d + shrinkage * math.exp(-(low + high) / 2))


def group_mcp_solution(w: Tensor, d: float, threshold: float, gamma: float) -> Tensor:
    """Return argmin_p ½ d ‖p‖² - wᵀ p + ρ(‖p‖₂), with ρ' falling from `threshold` at slope d/γ.

    The objective is strictly convex in the norm, whose root of the derivative is bisected.
    """
    w = w.double()
    norm = float(w.norm())
    low, high = 0.0, norm / d
    for _ in range(200):
        middle = (low + high) / 2
        if d * middle - norm + max(0.0, threshold - d * middle / gamma) > 0.0:
            high = middle
        else:
            low = middle
    return w * (low / norm) if low > 0.0 else torch.zeros_like(w)


def relative_kkt(p: Tensor, w: Tensor, d: Tensor, shrinkage: float) -> float:
    """Return the norm of the smallest subgradient at p, over ‖w‖."""
    p, w, d = p.double(), w.double(), d.double()
    unit = float(w.abs().max())
    if unit == 0.0:
        return float(p.abs().max())
    p, w, shrinkage = p / unit, w / unit, shrinkage / unit
    norm = float(w.norm())
    if not bool(p.any()):
        return max(0.0, norm - shrinkage) / norm
    return float((d * p - w + shrinkage * p / p.norm()).norm()) / norm
