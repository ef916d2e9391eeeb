"""The subproblem under a nuclear norm, against its optimality condition and other solvers."""

import math

import pytest
import torch
from torch import Tensor

from ramda_cli.subproblem.low_rank import AlternatingDirections, ProximalGradientSteps

EXACT = AlternatingDirections(tolerance=1e-10, max_iterations=3000)


def problem(
    rows: int, cols: int, decades: float, *, batch: int = 1, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return W and D, whose entries span about so many decades; the anchor is nearly low rank."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator, dtype=torch.float64)

    rank = max(1, min(rows, cols) // 4)
    anchor = noise(rows, rank) @ noise(rank, cols) + 0.3 * noise(rows, cols)
    d = (noise(rows, cols) * math.log(10) * decades / 4).exp()
    return d * anchor, d


def threshold(x: Tensor, limit: Tensor) -> Tensor:
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    return left @ torch.diag_embed((values - limit[:, None]).clamp_min(0.0)) @ right


def shrinkage_of(w: Tensor, share: float) -> Tensor:
    return share * torch.linalg.matrix_norm(w, 2)


@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (8, 1), (12, 12), (24, 16), (16, 40)])
@pytest.mark.parametrize("decades", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_the_solution_is_a_fixed_point_of_proximal_gradient(
    shape: tuple[int, int], decades: float, share: float
) -> None:
    w, d = problem(*shape, decades)
    limit = shrinkage_of(w, share)
    found = EXACT.solve(w, d, limit, start=torch.zeros_like(w))
    z = found.matrix
    rate = 0.7 * float(d.max())  # another step than any that the solver takes
    again = threshold(z - (d * z - w) / rate, limit / rate)
    assert torch.allclose(again, z, rtol=1e-8, atol=1e-8 * float(z.abs().max() + 1e-9))
    assert float(found.certificate) <= 1e-10 * float(torch.linalg.matrix_norm(w))
    values = torch.linalg.svdvals(z)
    assert int((values > 1e-9 * values.max()).sum()) == int(found.rank)


@pytest.mark.parametrize("seed", range(3))
def test_single_precision_comes_as_close_as_it_can(seed: int) -> None:
    w, d = problem(48, 64, 1.0, seed=seed)
    limit = shrinkage_of(w, 0.1)
    exact = EXACT.solve(w, d, limit, start=torch.zeros_like(w))
    solver = AlternatingDirections(tolerance=3e-7, max_iterations=200)
    single = solver.solve(w.float(), d.float(), limit.float(), start=torch.zeros_like(w).float())
    error = torch.linalg.matrix_norm(single.matrix.double() - exact.matrix)
    assert float(error) <= 1e-5 * float(torch.linalg.matrix_norm(exact.matrix))
    assert single.rank.tolist() == exact.rank.tolist()


def test_a_uniform_diagonal_is_one_thresholding() -> None:
    w, _ = problem(20, 30, 0.0)
    d, limit = torch.full_like(w, 2.5), shrinkage_of(w, 0.2)
    found = EXACT.solve(w, d, limit, start=torch.zeros_like(w))
    assert torch.allclose(found.matrix, threshold(w / 2.5, limit / 2.5), atol=1e-9)


@pytest.mark.parametrize("w", [torch.zeros(1, 6, 9).double(), torch.ones(1, 6, 9).double()])
def test_a_matrix_that_is_all_shrunk_away_is_exactly_zero(w: Tensor) -> None:
    d = torch.linspace(0.5, 2.0, 54).reshape(1, 6, 9).double()
    limit = (1.01 * torch.linalg.matrix_norm(w, 2)).clamp_min(0.1)
    found = EXACT.solve(w, d, limit, start=torch.ones_like(w))
    assert not found.matrix.any()
    assert found.rank.tolist() == [0]


def test_no_regularizer_leaves_the_closed_form() -> None:
    w, d = problem(10, 14, 2.0)
    found = EXACT.solve(w, d, torch.zeros(1).double(), start=torch.zeros_like(w))
    assert torch.allclose(found.matrix, w / d, rtol=1e-6, atol=1e-8 * float((w / d).abs().max()))


def test_problems_of_a_batch_do_not_see_each_other() -> None:
    w, d = problem(16, 24, 2.0, batch=3)
    limit = shrinkage_of(w, 0.2)
    together = EXACT.solve(w, d, limit, start=torch.zeros_like(w))
    for number in range(3):
        one = slice(number, number + 1)
        alone = EXACT.solve(w[one], d[one], limit[one], start=torch.zeros_like(w[one]))
        assert torch.allclose(together.matrix[one], alone.matrix, rtol=1e-6, atol=1e-9)
        assert together.rank[one].tolist() == alone.rank.tolist()


def test_a_start_at_the_solution_of_a_similar_problem_saves_iterations() -> None:
    w, d = problem(32, 48, 3.0)
    limit, solver = shrinkage_of(w, 0.2), AlternatingDirections(tolerance=1e-2)
    cold = solver.solve(w, d, limit, start=torch.zeros_like(w))
    before = EXACT.solve(w, d, limit, start=torch.zeros_like(w))
    warm = solver.solve(1.01 * w, d, 1.01 * limit, start=before.matrix)
    assert warm.iterations < cold.iterations
    assert (warm.certificate <= 1e-2 * torch.linalg.matrix_norm(1.01 * w)).all()


def test_proximal_gradient_goes_to_the_same_solution() -> None:
    w, d = problem(16, 12, 1.0)
    limit = shrinkage_of(w, 0.2)
    exact = EXACT.solve(w, d, limit, start=torch.zeros_like(w))
    slow = ProximalGradientSteps(relative_decrease=0.0, max_iterations=20000)
    found = slow.solve(w, d, limit, start=torch.zeros_like(w))
    assert torch.allclose(found.matrix, exact.matrix, rtol=1e-4, atol=1e-6)
    assert found.rank.tolist() == exact.rank.tolist()
    few = ProximalGradientSteps().solve(w, d, limit, start=torch.zeros_like(w))
    assert few.iterations <= 5
    assert float(few.certificate) > float(found.certificate)


def test_proximal_gradient_stops_early_unless_told_not_to() -> None:
    w, d = problem(16, 12, 1.0)
    limit = shrinkage_of(w, 0.2)
    start = EXACT.solve(w, d, limit, start=torch.zeros_like(w)).matrix
    assert ProximalGradientSteps().solve(w, d, limit, start=start).iterations == 2
    unstopped = ProximalGradientSteps(relative_decrease=None)
    assert unstopped.solve(w, d, limit, start=start).iterations == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"tolerance": -1.0}, "tolerance must be >= 0"), ({"max_iterations": 0}, "at least 1")],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AlternatingDirections(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"relative_decrease": -1.0}, "relative_decrease must be >= 0"),
        ({"max_iterations": 0}, "at least 1"),
    ],
)
def test_so_are_those_of_proximal_gradient(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProximalGradientSteps(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("tolerance", [1e-2, 1e-7])
def test_what_is_zero_waits_for_what_is_slow(tolerance: float) -> None:
    """In single precision a step that goes on shrinking would overflow in the end."""
    w, d = problem(16, 24, 5.0, batch=2)
    limit = shrinkage_of(w, 0.05)
    limit[0] *= 1e4
    solver = AlternatingDirections(tolerance=tolerance, max_iterations=200)
    found = solver.solve(w.float(), d.float(), limit.float(), start=torch.zeros_like(w).float())
    assert not found.matrix[0].any()
    assert found.rank[0] == 0
    assert found.matrix.isfinite().all()
    assert found.certificate.isfinite().all()
    assert found.iterations > 10


def test_what_is_solved_does_not_change_while_others_go_on() -> None:
    w, d = problem(16, 24, 1.0)
    slow_w, slow_d = problem(16, 24, 5.0)
    limit = torch.cat([shrinkage_of(w, 0.2), shrinkage_of(slow_w, 0.05)])
    solver = AlternatingDirections(tolerance=1e-3, max_iterations=500)
    both_w, both_d = torch.cat([w, slow_w]), torch.cat([d, slow_d])
    together = solver.solve(both_w, both_d, limit, start=torch.zeros_like(both_w))
    alone = solver.solve(w, d, limit[:1], start=torch.zeros_like(w))
    assert together.iterations > alone.iterations
    torch.testing.assert_close(together.matrix[:1], alone.matrix)
