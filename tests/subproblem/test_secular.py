"""The exact solver against a bisection in float64, and against its own optimality conditions."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from ramda_cli.regularizers import GroupLasso
from ramda_cli.subproblem import (
    Groups,
    Member,
    Root,
    index_cells,
    newton_from_zero,
    solve_secular,
)
from tests.reference import group_lasso_solution, relative_kkt


def _solve(
    w: Sequence[Tensor],
    d: Sequence[Tensor],
    dims: Sequence[int],
    shrinkage: Tensor,
    *,
    owners: Sequence[Tensor] | None = None,
    guess: float = 0.0,
) -> tuple[list[Tensor], Root, Tensor]:
    """Solve for channels spread over several tensors; return solutions, roots and scales."""
    channels = len(shrinkage)
    owners = owners or [torch.arange(channels)] * len(w)
    members = [Member(x, dim, owner) for x, dim, owner in zip(w, dims, owners, strict=True)]
    solutions = [x.clone() for x in w]
    groups = Groups(index_cells(members, channels), solutions, d, factors=[1.0] * len(w))
    moments = groups.normalize_()
    scaled = shrinkage / moments.scale
    zero = moments.norm <= scaled
    root = solve_secular(
        groups.secular_sums,
        lower=newton_from_zero(moments.norm, moments.curvature, scaled),
        guess=torch.full_like(shrinkage, guess),
        shrinkage=scaled,
        zero=zero,
    )
    groups.solve_(torch.where(zero, torch.inf, scaled / root.r), moments.scale)
    return solutions, root, moments.scale


def _problem(
    channels: int, size: int, *, decades: float = 2.0, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(channels, size, generator=generator)
    d = 10 ** ((torch.rand(channels, size, generator=generator) - 0.5) * decades)
    share = torch.rand(channels, generator=generator) * 1.2
    return w, d, share * w.double().norm(dim=1).float()


@pytest.mark.parametrize("guess", [0.0, 1e-3, 1e3])
@pytest.mark.parametrize("shape", [(40, 12), (40, 1), (1, 40), (1, 1)])
def test_matches_bisection(shape: tuple[int, int], guess: float):
    w, d, shrinkage = _problem(*shape)
    (p,), root, _ = _solve([w], [d], [0], shrinkage, guess=guess)
    for row in range(shape[0]):
        expected = group_lasso_solution(w[row], d[row], float(shrinkage[row]))
        # ‖p‖ is proportional to ‖w‖ - L, which rounding makes uncertain as it nears 0.
        gap = 1.0 - float(shrinkage[row] / w[row].norm())
        torch.testing.assert_close(p[row].double(), expected, rtol=1e-6 / abs(gap), atol=0.0)
        assert (root.residual[row] == 0) or expected.any()


def test_zero_exactly_where_the_norm_is_not_above_the_shrinkage():
    w = torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0]])
    shrinkage = torch.tensor([5.0, 4.9999, 0.0])
    (p,), _, _ = _solve([w], [torch.ones(3, 2)], [0], shrinkage)
    assert (p == 0).all(dim=1).tolist() == [True, False, True]


def test_float64_reaches_float64_accuracy():
    w, d, shrinkage = (x.double() for x in _problem(30, 7))
    (p,), _, _ = _solve([w], [d], [0], shrinkage)
    rows = [group_lasso_solution(w[i], d[i], float(shrinkage[i])) for i in range(30)]
    torch.testing.assert_close(p, torch.stack(rows), rtol=1e-12, atol=0.0)


def test_solution_is_a_fixed_point_of_proximal_gradient_at_another_step():
    # Any minimizer is a fixed point for every uniform step; a wrong metric is not.
    w, d, shrinkage = (x.double() for x in _problem(30, 7))
    (p,), _, _ = _solve([w], [d], [0], shrinkage)
    step = 0.37
    again = GroupLasso(7**-0.5).prox(p - step * (d * p - w), step * shrinkage.unsqueeze(1))
    torch.testing.assert_close(again, p, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-36, 1e-30, 1e-20, 1.0, 1e20, 1e30])
@pytest.mark.parametrize("decades", [0.0, 4.0, 8.0])
@pytest.mark.parametrize("size", [1, 2, 30, 1000])
def test_degenerate_groups_meet_the_optimality_condition(size: int, decades: float, scale: float):
    w, d, shrinkage = _problem(24, size, decades=decades)
    (p,), root, unit = _solve([w * scale], [d], [0], shrinkage * scale)
    tiny = torch.finfo(torch.float32).tiny
    for row in range(24):
        problem = w[row] * scale, d[row], float(shrinkage[row] * scale)
        if (group_lasso_solution(*problem).abs() < tiny).any():
            continue  # fp32 cannot hold the solution
        assert relative_kkt(p[row], *problem) <= 1e-6
    norms = (w * scale / unit[:, None]).norm(dim=1)
    assert (root.residual <= 1e-6 * norms).all()


def test_subnormal_groups_are_right_to_the_smallest_normal_number():
    w, d, shrinkage = _problem(24, 30, decades=8.0)
    (p,), _, _ = _solve([w * 1e-38], [d], [0], shrinkage * 1e-38)
    tiny = torch.finfo(torch.float32).tiny
    for row in range(24):
        expected = group_lasso_solution(w[row] * 1e-38, d[row], float(shrinkage[row] * 1e-38))
        torch.testing.assert_close(p[row].double(), expected, rtol=1e-4, atol=2 * tiny)


@pytest.mark.parametrize("decades", [2.0, 8.0])
@pytest.mark.parametrize("share", [0.0, 1e-6, 0.5, 0.999999])
def test_a_million_entries(share: float, decades: float):
    w, d, _ = _problem(1, 10**6, decades=decades)
    shrinkage = share * w.double().norm(dim=1).float()
    (p,), _, _ = _solve([w], [d], [0], shrinkage)
    assert relative_kkt(p[0], w[0], d[0], float(shrinkage[0])) <= 1e-6


@pytest.mark.parametrize("share", [0.0, 1e-7, 0.3, 0.999, 1.0])
def test_one_entry_that_is_not_zero(share: float):
    w, d = torch.zeros(2, 50), torch.full((2, 50), 0.25)
    w[0, 17], d[0, 17] = -8.0, 2.0
    (p,), _, _ = _solve([w], [d], [0], torch.tensor([8.0 * share, 8.0 * share]))
    expected = torch.zeros(2, 50)
    expected[0, 17] = -8.0 * (1 - share) / 2.0
    torch.testing.assert_close(p, expected, rtol=1e-6, atol=1e-6)


def test_without_shrinkage_it_is_the_closed_form():
    w, d, _ = _problem(20, 9)
    w[3] = 0.0
    (p,), root, _ = _solve([w], [d], [0], torch.zeros(20))
    torch.testing.assert_close(p, w / d, rtol=1e-6, atol=0.0)
    assert torch.equal(root.residual, torch.zeros(20))


def test_the_certificate_is_the_norm_of_the_smallest_subgradient():
    # Two evaluations leave an error; the residual must be that of the point returned.
    w, d, shrinkage = (x.double() for x in _problem(30, 40, decades=6.0))
    members = [Member(w, 0, torch.arange(30))]
    groups = Groups(index_cells(members, 30), [w.clone()], [d], factors=[1.0])
    moments = groups.normalize_()
    zero = moments.norm <= shrinkage / moments.scale
    r = newton_from_zero(moments.norm, moments.curvature, shrinkage / moments.scale)
    phi, _ = groups.secular_sums(torch.where(zero, 1.0, r), shrinkage / moments.scale)
    for row in torch.flatten(torch.nonzero(~zero)).tolist():
        p = w[row] / (d[row] + shrinkage[row] / (r[row] * moments.scale[row]))
        gradient = d[row] * p - w[row] + shrinkage[row] * p / p.norm()
        assert float(shrinkage[row] * (1 - phi[row].sqrt()).abs()) == pytest.approx(
            float(gradient.norm()), rel=1e-9
        )


def test_newton_rises_from_the_lower_bound_to_the_root():
    w, d, shrinkage = (x.double() for x in _problem(50, 30, decades=8.0))
    norm, curvature = w.norm(dim=1), (w.square() * d).sum(dim=1)
    lower = newton_from_zero(norm, curvature, shrinkage)
    for row in torch.flatten(torch.nonzero(norm > shrinkage)).tolist():
        root = group_lasso_solution(w[row], d[row], float(shrinkage[row])).norm()
        assert 0 < lower[row] <= root * (1 + 1e-12)


@pytest.mark.parametrize("factor", [0.1, 1.0, 10.0])
def test_few_evaluations_suffice(factor: float):
    w, d, shrinkage = (x.double() for x in _problem(200, 30))
    groups = Groups(
        index_cells([Member(w, 0, torch.arange(200))] * 2, 200),
        [w.clone(), w / factor],
        [d, d / factor],
        factors=[1.0, factor],
    )
    moments = groups.normalize_()
    scaled = 2**0.5 * shrinkage / moments.scale  # for two equal members
    evaluated: list[Tensor] = []

    def sums(r: Tensor, shrinkage: Tensor) -> tuple[Tensor, Tensor]:
        evaluated.append(r)
        return groups.secular_sums(r, shrinkage)

    lower = newton_from_zero(moments.norm, moments.curvature, scaled)
    zero = moments.norm <= scaled
    root = solve_secular(sums, lower=lower, guess=lower, shrinkage=scaled, zero=zero)
    assert zero.any()
    assert (root.residual <= 1e-14).all()
    assert len(evaluated) <= 6  # the last one finds that there is nothing left to do
    for before, after in itertools.pairwise(evaluated):
        assert (after >= before * (1 - 1e-12)).all()
