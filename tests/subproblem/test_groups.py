"""Groups spread over several tensors, dimensions and memory formats."""

import pytest
import torch
from torch import Tensor

from ramda_cli.subproblem import Cells, cells
from tests.reference import group_lasso_solution
from tests.subproblem.test_secular import _solve


def _random(*shape: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator), torch.rand(shape, generator=generator) + 0.1


def _positions(x: Tensor, dim: int, owner: Tensor, channel: int) -> Tensor:
    return x.index_select(dim, torch.nonzero(owner == channel).flatten())


@pytest.mark.parametrize("block_entries", [1, 7, 1 << 17])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_channel_spans_tensors_and_dimensions(
    memory_format: torch.memory_format, block_entries: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cells, "_CPU_BLOCK_ENTRIES", block_entries)
    parts = [
        (*_random(6, 4, 3, 3, seed=0), 1, torch.tensor([0, 1, 2, 3])),
        (*_random(4, 5, 1, 1, seed=1), 0, torch.tensor([3, 1, 0, 2])),
        (*_random(3, 14, seed=2), 1, torch.tensor([0, 0, 4, 1, 2, 1, 4, 3, 3, 2, 2, 0, 4, 3])),
        (*_random(4, seed=3), 0, torch.arange(4)),
        (*_random(2, 4, 6, seed=4), 1, torch.arange(4)),
    ]
    w, d, dims, owners = (list(column) for column in zip(*parts, strict=True))
    for i in (0, 1):
        w[i], d[i] = (x[i].contiguous(memory_format=memory_format) for x in (w, d))
    shrinkage = torch.tensor([4.0, 0.0, 1000.0, 6.0])
    solutions, _, _ = _solve(w, d, dims, shrinkage, owners=owners)
    for channel in range(4):
        joined = [
            torch.cat([
                _positions(x, dim, owner, channel).flatten()
                for x, dim, owner in zip(values, dims, owners, strict=True)
            ])
            for values in (w, d, solutions)
        ]  # fmt: skip
        expected = group_lasso_solution(joined[0], joined[1], float(shrinkage[channel]))
        torch.testing.assert_close(joined[2].double(), expected, rtol=3e-6, atol=0.0)
    # Positions 2, 6 and 12 of the third tensor belong to no channel.
    torch.testing.assert_close(
        _positions(solutions[2], 1, owners[2], 4), _positions(w[2] / d[2], 1, owners[2], 4)
    )


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_cells_are_views(dim: int):
    w, d = _random(2, 3, 4, 5, seed=0)
    for each in (w, w.contiguous(memory_format=torch.channels_last), w.transpose(0, 2)):
        view = Cells.view(each, each, dim)
        assert view.w.data_ptr() == each.data_ptr()
        assert view.w.numel() == each.numel()
    assert d.shape == w.shape


def test_the_order_of_sums_does_not_depend_on_the_run():
    w, d = _random(300, 64, seed=0)
    shrinkage = torch.full((64,), 9.0)
    first, _, _ = _solve([w], [d], [1], shrinkage)
    second, _, _ = _solve([w], [d], [1], shrinkage)
    assert torch.equal(first[0], second[0])
