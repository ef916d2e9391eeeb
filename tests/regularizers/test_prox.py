"""Properties every proximal operator has, checked for every regularizer."""

import math

import pytest
import torch

from ramda_cli.regularizers import GroupLasso, Regularizer

REGULARIZERS = [
    pytest.param(GroupLasso(0.3), id="group_lasso"),
    pytest.param(GroupLasso(0.0), id="group_lasso_weight_0"),
]
SHAPES = [(6, 4), (4, 6), (5, 1), (1, 5), (1, 1)]


def _uniform_step(rows: int, step: float) -> torch.Tensor:
    return torch.full((rows, 1), step, dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_three_point_inequality(regularizer: Regularizer, shape: tuple[int, int]):
    # p = prox(x) iff, for all u: 2 t (ψ(p) - ψ(u)) <= |u-x|^2 - |u-p|^2 - |p-x|^2
    generator = torch.Generator().manual_seed(0)
    t = 0.7
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    p = regularizer.prox(x, _uniform_step(shape[0], t))
    noise = torch.randn(8, *shape, dtype=torch.float64, generator=generator)
    near = [p + scale * n for n in noise for scale in (1e-3, 1e-2, 1e-1, 1.0)]
    # Random points alone are too far away to notice a wrong threshold.
    for u in [torch.zeros_like(x), x, 0.99 * p, 1.01 * p, *near]:
        left = 2 * t * (regularizer.value(p) - regularizer.value(u))
        right = (u - x).square().sum() - (u - p).square().sum() - (p - x).square().sum()
        assert left <= right + 1e-12


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_prox_is_firmly_nonexpansive(regularizer: Regularizer):
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        x, y = torch.randn(2, 6, 4, dtype=torch.float64, generator=generator)
        step = _uniform_step(6, 0.5)
        difference = regularizer.prox(x, step) - regularizer.prox(y, step)
        assert difference.square().sum() <= (difference * (x - y)).sum() + 1e-12


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_zero_stays_zero(regularizer: Regularizer):
    x = torch.zeros(3, 4)
    assert torch.equal(regularizer.prox(x, torch.ones(3, 1)), x)


def test_each_row_has_its_own_step():
    x = torch.tensor([[3.0, 4.0], [3.0, 4.0]])
    p = GroupLasso(1.0).prox(x, torch.tensor([[1.0], [100.0]]))
    torch.testing.assert_close(p[0], x[0] * (1 - math.sqrt(2) / 5))
    assert torch.equal(p[1], torch.zeros(2))


def test_value_weighs_by_the_root_of_the_size():
    x = torch.tensor([[3.0, 0.0, 4.0, 0.0], [0.0, 0.0, 0.0, 2.0]])
    assert GroupLasso(0.5).value(x).item() == pytest.approx(0.5 * 2.0 * 7.0)


def test_whole_rows_become_exactly_zero():
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    p = GroupLasso(1.0).prox(x, torch.ones(50, 1))
    zero_rows = (p == 0).all(dim=1)
    assert zero_rows.any()
    assert not zero_rows.all()
    assert torch.equal((p == 0).any(dim=1), zero_rows)


@pytest.mark.parametrize("weight", [-0.1, math.inf, math.nan])
def test_bad_weight_is_rejected(weight: float):
    with pytest.raises(ValueError, match=f"weight must be finite and >= 0, got {weight}"):
        GroupLasso(weight)
