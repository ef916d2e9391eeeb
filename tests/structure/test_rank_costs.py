"""What a model costs whose weights have lost ranks: the same as one that is factorized."""

import numpy as np
import pytest
import torch
from torch import nn

from ramda_cli.structure import discover
from ramda_cli.structure.cost import CostModel
from ramda_cli.structure.matrices import Matrix
from ramda_cli.surgery.factorize import factorize


class Mixed(nn.Module):
    """A convolution, and linear layers at several places of a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 24, 3, stride=2)
        self.mix = nn.Linear(24, 40)
        self.back = nn.Linear(40, 24)
        self.head = nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x).flatten(2).mT
        x = x + self.back(torch.relu(self.mix(x)))
        return self.head(x.mean(1))


MATRICES = (
    Matrix("conv.weight", 24, 27),
    Matrix("mix.weight", 40, 24),
    Matrix("back.weight", 24, 40),
)


@pytest.mark.parametrize("metric", ["macs", "params", "size_mb"])
@pytest.mark.parametrize("ranks", [(24, 24, 24), (5, 24, 7), (12, 1, 14)])
def test_cost_is_that_of_the_factorized_model(metric: str, ranks: tuple[int, int, int]) -> None:
    model, x = Mixed().eval(), torch.randn(1, 3, 17, 17)
    structure = discover(model, x)
    cost = CostModel(structure, MATRICES)
    kept = cost.channels.copy()
    kept[-3:] = ranks

    wanted = {m.parameter: r for m, r in zip(MATRICES, ranks, strict=True) if r < m.full_rank}
    smaller, done = factorize(model, wanted)
    assert not done.dense
    told = CostModel(discover(smaller, x))
    assert cost.measure(metric, kept) == told.measure(metric, told.channels)


def test_channels_and_ranks_cost_together() -> None:
    """Channels of a layer that is a product of two are rows of one factor."""
    model, x = Mixed().eval(), torch.randn(1, 3, 17, 17)
    cost = CostModel(discover(model, x), MATRICES[1:2])
    at = cost.names.index("mix")
    kept = cost.channels.copy()
    kept[at], kept[-1] = 10, 6
    dense = cost.measure("params", cost.channels)
    assert dense - cost.measure("params", kept) == (
        40 * 24 - 6 * (10 + 24) + 30 + 24 * 30  # the two layers, the bias, columns of `back`
    )


def test_what_does_not_depend_on_a_rank() -> None:
    cost = CostModel(discover(Mixed().eval(), torch.randn(1, 3, 17, 17)), MATRICES)
    assert np.array_equal(cost.depends_on("channels")[-3:], [False] * 3)
    assert np.array_equal(cost.depends_on("macs")[-3:], [True] * 3)
