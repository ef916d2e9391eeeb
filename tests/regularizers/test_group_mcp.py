"""Group MCP against Zhang's definition, and its prox against the problem that it solves."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ramda_cli.regularizers import GroupLasso, GroupMCP, firm_shrinkage

weights = st.floats(0.0, 3.0)
gammas = st.floats(1.01, 50.0)
steps = st.floats(0.01, 20.0)
sizes = st.integers(1, 6)
seeds = st.integers(0, 2**20)


def _rows(size: int, seed: int, *, rows: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, size, dtype=torch.float64, generator=generator)
    return x * torch.logspace(-2, 1.5, rows, dtype=torch.float64).unsqueeze(1)


def _objective(z: Tensor, x: Tensor, mcp: GroupMCP, step: float) -> float:
    return float(mcp.value(z, step) + (z - x).square().sum() / (2 * step))


@given(weights, gammas, steps, sizes)
def test_the_value_is_the_integral_of_the_falling_slope(
    weight: float, gamma: float, step: float, size: int
):
    level = weight * math.sqrt(size)
    for r in (0.0, 0.3, 2.0, 30.0):
        # Midpoints are exact where the slope is affine: in all cells but that of the knee.
        cell = r / 1000
        s = (torch.arange(1000, dtype=torch.float64) + 0.5) * cell
        slope = (level - s / (gamma * step)).clamp_min(0.0)
        row = torch.full((1, size), r / math.sqrt(size), dtype=torch.float64)
        value = float(GroupMCP(weight, gamma).value(row, step))
        error = cell**2 / (8 * gamma * step) + 1e-12
        assert value == pytest.approx(float(slope.sum()) * cell, rel=1e-10, abs=error)


@given(weights, gammas, steps, sizes, seeds)
@settings(deadline=None)
def test_the_prox_minimises_with_the_modulus_that_is_claimed(
    weight: float, gamma: float, step: float, size: int, seed: int
):
    # p minimises an m-strongly convex f iff f(u) >= f(p) + m/2 ‖u - p‖² for all u.
    mcp, x = GroupMCP(weight, gamma), _rows(size, seed)
    p = mcp.prox(x, torch.full((len(x), 1), step, dtype=torch.float64))
    least = _objective(p, x, mcp, step)
    modulus = (1 - 1 / gamma) / step
    noise = _rows(size, seed + 1)
    near = [p + scale * noise for scale in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)]
    lasso = GroupLasso(weight).prox(x, torch.full((len(x), 1), step, dtype=torch.float64))
    for u in [torch.zeros_like(x), x, lasso, 0.99 * p, 1.01 * p, *near]:
        bound = least + modulus / 2 * float((u - p).square().sum())
        assert _objective(u, x, mcp, step) >= bound - 1e-12 * (1 + abs(bound))


@given(weights, gammas, steps, sizes, seeds)
@settings(deadline=None)
def test_the_prox_finds_the_least_of_a_fine_grid(
    weight: float, gamma: float, step: float, size: int, seed: int
):
    # The problem is one of the norm alone: any direction but that of x costs more.
    x = _rows(size, seed)
    p = GroupMCP(weight, gamma).prox(x, torch.full((len(x), 1), step, dtype=torch.float64))
    level = weight * math.sqrt(size)
    for row, found in zip(x, p, strict=True):
        shares = torch.linspace(0.0, 1.0, 4001, dtype=torch.float64)
        r = shares * row.norm()
        inside = level * r - r.square() / (2 * gamma * step)
        penalty = torch.where(r <= gamma * step * level, inside, gamma * step * level**2 / 2)
        best = shares[int((penalty + (r - row.norm()).square() / (2 * step)).argmin())]
        assert float((found - best * row).norm()) <= float(row.norm()) / 4000


def test_zeros_are_group_lassos_and_large_rows_are_untouched():
    step = torch.full((200, 1), 0.7, dtype=torch.float64)
    x = _rows(4, 0, rows=200)
    lasso, mcp = GroupLasso(0.3).prox(x, step), GroupMCP(0.3, gamma=2.5).prox(x, step)
    zero = (lasso == 0).all(dim=1)
    assert 0 < int(zero.sum()) < 200
    assert torch.equal((mcp == 0).all(dim=1), zero)
    beyond = x.norm(dim=1) > 2.5 * 0.7 * 0.3 * 2.0
    assert 0 < int(beyond.sum()) < 200 - int(zero.sum())
    assert torch.equal(mcp[beyond], x[beyond])
    assert bool((mcp[~beyond & ~zero].norm(dim=1) < x[~beyond & ~zero].norm(dim=1)).all())


def test_each_row_has_its_own_step():
    x = torch.tensor([[3.0, 4.0]] * 3, dtype=torch.float64)
    root = math.sqrt(2.0)
    thresholds = torch.tensor([[5.1], [4.0], [1.5]], dtype=torch.float64)
    p = GroupMCP(1.0, gamma=3.0).prox(x, thresholds / root)
    # Zero; (5 - 4) / (1 - 1/3); beyond the knee at 4.5.
    assert p.norm(dim=1).tolist() == pytest.approx([0.0, 1.5, 5.0])


def test_a_large_gamma_is_group_lasso():
    x, step = _rows(3, 1), torch.full((5, 1), 0.5, dtype=torch.float64)
    torch.testing.assert_close(
        GroupMCP(0.4, gamma=1e12).prox(x, step), GroupLasso(0.4).prox(x, step)
    )
    assert float(GroupMCP(0.4, gamma=1e12).value(x)) == pytest.approx(
        float(GroupLasso(0.4).value(x))
    )
    size = torch.tensor([0.0, 1.0, 2.0, math.inf])
    assert firm_shrinkage(size, torch.ones(4), GroupLasso(1.0).gamma).tolist() == [1.0] * 4


def test_the_shrinkage_of_any_size_is_between_nothing_and_the_threshold():
    size = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 7.0, math.inf])
    shrinkage = firm_shrinkage(size, torch.full((7,), 2.0), 2.0)
    assert shrinkage.tolist() == [2.0, 2.0, 2.0, 1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_zero_stays_zero(weight: float):
    x = torch.zeros(3, 4)
    assert torch.equal(GroupMCP(weight).prox(x, torch.ones(3, 1)), x)
    assert float(GroupMCP(weight).value(x)) == 0.0


def test_weight_0_changes_nothing():
    x = _rows(3, 2)
    assert torch.equal(GroupMCP(0.0).prox(x, torch.ones(5, 1).double()), x)


@pytest.mark.parametrize("weight", [-0.1, math.inf, math.nan])
def test_bad_weight_is_rejected(weight: float):
    with pytest.raises(ValueError, match=f"weight must be finite and >= 0, got {weight}"):
        GroupMCP(weight)


@pytest.mark.parametrize("gamma", [1.0, 1.009, 0.0, math.inf, math.nan])
def test_bad_gamma_is_rejected(gamma: float):
    with pytest.raises(ValueError, match=f"gamma must be finite and >= 1.01, got {gamma}"):
        GroupMCP(1.0, gamma)
