"""The solvers of the subproblem against each other and against bisection."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ramda_cli.subproblem import (
    ExactSolver,
    Groups,
    Member,
    NewtonRaphson,
    Problem,
    ProximalGradient,
    Solution,
    Solver,
    index_cells,
    solver_named,
)
from tests.reference import group_lasso_solution, relative_kkt

SHAPE = (12, 5)


def _values(seed: int, decades: float, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(SHAPE, dtype=torch.float64, generator=generator)
    d = 10 ** (decades * (torch.rand(SHAPE, dtype=torch.float64, generator=generator) - 0.5))
    return w.to(dtype), d.to(dtype)


def _solve(
    solver: Solver, w: Tensor, d: Tensor, shrinkage: Tensor, start: Tensor | None = None
) -> tuple[Tensor, Solution]:
    """Solve for five channels, the columns, and a sixth column that belongs to none."""
    owner = torch.arange(w.shape[1])
    index = index_cells([Member(w, 1, owner)], w.shape[1] - 1)
    p = w.clone()
    groups = Groups(index, [p], [d], factors=[1.0])
    moments = groups.normalize_()
    scaled = shrinkage / moments.scale
    begin = torch.zeros_like(w) if start is None else start
    last = torch.full_like(shrinkage, torch.finfo(w.dtype).tiny)
    problem = Problem(groups, moments, scaled, moments.norm <= scaled, last, lambda: [begin])
    return p, solver.solve_(problem)


def _shrinkage(w: Tensor, share: float) -> Tensor:
    # The last column belongs to no channel; the first channel is zero.
    levels = share * w[:, :-1].norm(dim=0)
    levels[0] = 2 * w[:, 0].norm()
    return levels


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**20), decades=st.floats(0, 4), share=st.floats(0.0, 0.98))
def test_exact_and_newton_raphson_meet_bisection(seed: int, decades: float, share: float):
    w, d = _values(seed, decades)
    shrinkage = _shrinkage(w, share)
    for solver in (ExactSolver(), NewtonRaphson()):
        p, solution = _solve(solver, w, d, shrinkage)
        for channel in range(4):
            expected = group_lasso_solution(w[:, channel], d[:, channel], float(shrinkage[channel]))
            torch.testing.assert_close(p[:, channel], expected, rtol=1e-7, atol=1e-12)
            assert float(solution.norms[channel]) == pytest.approx(float(expected.norm()), rel=1e-7)
        torch.testing.assert_close(p[:, 4], w[:, 4] / d[:, 4])
        assert float(solution.ratios[0]) == math.inf
        assert float(solution.certificate) <= 1e-8 * float(shrinkage.norm()) + 1e-12


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    share=st.floats(0.05, 0.95),
    tolerance=st.sampled_from([1e-2, 1e-4, 1e-6]),
)
def test_proximal_gradient_is_as_exact_as_asked(seed: int, share: float, tolerance: float):
    w, d = _values(seed, 1.0)
    shrinkage = _shrinkage(w, share)
    solver = ProximalGradient(tolerance=tolerance, relative_decrease=None, max_iterations=5000)
    p, solution = _solve(solver, w, d, shrinkage)
    exact, _ = _solve(ExactSolver(), w, d, shrinkage)
    assert float(solution.certificate) <= tolerance
    # Q is strongly convex, by the smallest diagonal entry.
    assert float((p - exact).norm()) <= tolerance / float(d.min()) * (1 + 1e-6)
    assert bool((p[:, 0] == 0).all())
    torch.testing.assert_close(p[:, 4], w[:, 4] / d[:, 4])
    # The certificate is the subgradient's true norm, so it bounds the smallest.
    smallest = 0.0
    for channel in range(4):
        relative = relative_kkt(
            p[:, channel], w[:, channel], d[:, channel], float(shrinkage[channel])
        )
        smallest += (relative * float(w[:, channel].norm())) ** 2
    assert math.sqrt(smallest) <= float(solution.certificate) * (1 + 1e-6) + 1e-12


def test_proximal_gradient_never_ends_above_its_start():
    w, d = _values(0, 1.0)
    shrinkage = _shrinkage(w, 0.5)
    start = torch.full_like(w, 0.3)

    def objective(p: Tensor) -> float:
        smooth = 0.5 * (d * p * p) - w * p
        return float(smooth[:, :-1].sum() + (shrinkage * p[:, :-1].norm(dim=0)).sum())

    for solver in (
        ProximalGradient(max_iterations=1),
        ProximalGradient(tolerance=1e9, relative_decrease=None),
        ProximalGradient(),
    ):
        p, _ = _solve(solver, w, d, shrinkage, start)
        before = start.clone()
        before[:, 0] = 0.0  # that channel's solution is known to be zero
        assert objective(p) <= objective(before)
    exact, _ = _solve(ExactSolver(), w, d, shrinkage)
    assert objective(p) <= objective(exact) + 1e-5 * abs(objective(exact))


def test_a_loose_rule_stops_early():
    w, d = _values(0, 3.0)
    shrinkage = _shrinkage(w, 0.5)
    exact, _ = _solve(ExactSolver(), w, d, shrinkage)
    errors = []
    for solver in (
        ProximalGradient(relative_decrease=1e-1),
        ProximalGradient(relative_decrease=1e-8),
        ProximalGradient(relative_decrease=1e-12, max_iterations=5000),
    ):
        p, _ = _solve(solver, w, d, shrinkage)
        errors.append(float((p - exact).norm()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_all_channels_zero():
    w, d = _values(0, 2.0)
    shrinkage = 3 * w[:, :-1].norm(dim=0)
    for solver in (ExactSolver(), NewtonRaphson(), ProximalGradient()):
        p, solution = _solve(solver, w, d, shrinkage)
        assert not p[:, :-1].any()
        assert solution.norms.tolist() == [0.0] * 4
        assert float(solution.certificate) == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance": -1.0}, "tolerance must be >= 0, got -1.0"),
        ({"relative_decrease": -1e-3}, "relative_decrease must be >= 0, got -0.001"),
        ({"max_iterations": 0}, "max_iterations must be at least 1, got 0"),
    ],
)
def test_bad_settings_are_rejected(settings: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        ProximalGradient(**settings)  # type: ignore[arg-type]


def test_solvers_have_names():
    assert isinstance(solver_named("exact"), ExactSolver)
    assert solver_named("pg") == ProximalGradient()
    with pytest.raises(ValueError, match="solver must be 'exact' or 'pg', got 'newton'"):
        solver_named("newton")
