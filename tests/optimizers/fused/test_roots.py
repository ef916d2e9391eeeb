"""The root between two passes, against bisection."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ramda_cli.optimizers.fused.roots import Secular
from tests.reference import group_lasso_solution


def _group(seed: int, size: int, decades: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(size, dtype=torch.float64, generator=generator)
    d = 10 ** (decades * (torch.rand(size, dtype=torch.float64, generator=generator) - 0.5))
    return w, d


def _sums(w: Tensor, d: Tensor, ratio: float) -> Tensor:
    p, t = w / (d + ratio), d / (d + ratio)
    return torch.stack([(p.square() * t**k).sum() for k in range(3)]).unsqueeze(1)


def _secular(w: Tensor, d: Tensor, shrinkage: float) -> Secular:
    return Secular(
        w.square().sum()[None],
        (w.square() * d).sum()[None],
        torch.tensor([shrinkage], dtype=torch.float64),
        torch.tensor([False]),
    )


cases = {
    "seed": st.integers(0, 2**20),
    "size": st.sampled_from([1, 2, 7, 100]),
    "decades": st.floats(0, 6),
    "share": st.floats(0.01, 0.99),
}


@settings(max_examples=200, deadline=None)
@given(**cases, factor=st.floats(-3, 3))
def test_newton_ends_at_the_root_from_wherever_the_guess_was(
    seed: int, size: int, decades: float, share: float, factor: float
):
    w, d = _group(seed, size, decades)
    shrinkage = share * float(w.norm())
    root = float(group_lasso_solution(w, d, shrinkage).norm())
    problem = _secular(w, d, shrinkage)
    guess = torch.tensor([shrinkage / (root * 10**factor)], dtype=torch.float64)
    r = problem.interpolated(guess, _sums(w, d, float(guess)))
    for _ in range(12):
        assert float(r) >= float(problem.lower) * (1 - 1e-12)
        r = problem.newton(r, *_sums(w, d, shrinkage / float(r))[:2])
    assert float(r) == pytest.approx(root, rel=1e-9)


@settings(max_examples=200, deadline=None)
@given(**cases, off=st.floats(-0.05, 0.05))
def test_a_good_guess_becomes_a_better_one(
    seed: int, size: int, decades: float, share: float, off: float
):
    w, d = _group(seed, size, decades)
    shrinkage = share * float(w.norm())
    root = float(group_lasso_solution(w, d, shrinkage).norm())
    guess = root * (1 + off)
    ratio = torch.tensor([shrinkage / guess], dtype=torch.float64)
    problem = _secular(w, d, shrinkage)
    better = float(problem.interpolated(ratio, _sums(w, d, float(ratio))))
    # At least quadratic: Newton alone is that.
    assert abs(better / root - 1) <= 4 * off**2 + 1e-9


def test_without_a_guess_it_is_the_step_from_zero():
    w, d = _group(0, 5, 2.0)
    problem = _secular(w, d, 0.3)
    nothing = torch.zeros(1, dtype=torch.float64)
    assert torch.equal(problem.interpolated(nothing, _sums(w, d, 0.0)), problem.lower)


def test_zero_channels_and_channels_without_shrinkage():
    three = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    zero = torch.tensor([False, True, True])
    problem = Secular(three, three, torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64), zero)
    nothing, sums = torch.zeros(3), torch.ones(3, 3, dtype=torch.float64)
    ratios = problem.first_ratios(nothing, sums)
    assert ratios.tolist() == [0.0, math.inf, math.inf]
