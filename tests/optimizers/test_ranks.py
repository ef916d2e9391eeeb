"""Steps whose ranks a rule decides, and steps between two thresholdings."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from ramda_cli.optimizers import RAMDA, LowRankPenalty, ProxGen
from ramda_cli.regularizers import NuclearNorm
from tests.optimizers.problems import parameters, set_gradients

MATRICES = ["conv.weight", "head.weight", "gate.weight"]
RANKS = {"conv.weight": 2, "head.weight": 3, "gate.weight": 4}


class FixedRanks:
    """Keeps ranks, in a metric that is a product."""

    def __init__(self, named: Mapping[str, Tensor], every: int = 1) -> None:
        generator = torch.Generator().manual_seed(3)

        def draw(size: int) -> Tensor:
            return torch.rand(size, generator=generator, dtype=torch.float64) + 0.1

        self.metrics = {n: (draw(len(p)), draw(p[0].numel())) for n, p in named.items()}
        self.step = 0
        self.every = every
        self.seen: dict[str, Tensor] = {}

    def take(self, gradients: Mapping[str, Tensor]) -> None:
        self.step += 1
        assert list(gradients) == MATRICES

    @property
    def due(self) -> bool:
        return (self.step - 1) % self.every == 0

    def metric(self, name: str) -> tuple[Tensor, Tensor]:
        return self.metrics[name]

    def choose(self, squares: Mapping[str, Tensor]) -> Mapping[str, int]:
        self.seen = dict(squares)
        return RANKS


def nearest(point: Tensor, rank: int, rows: Tensor, cols: Tensor) -> Tensor:
    """Return the nearest matrix of a rank in the metric, by the decomposition written out."""
    weighted = rows[:, None] * point.flatten(1) * cols
    left, values, right = torch.linalg.svd(weighted, full_matrices=False)
    kept = left[:, :rank] @ torch.diag(values[:rank]) @ right[:rank]
    return (kept / rows[:, None] / cols).reshape(point.shape)


def penalties(weight: float = 0.0) -> list[LowRankPenalty]:
    return [LowRankPenalty(name, NuclearNorm(weight)) for name in MATRICES]


def test_the_solution_is_the_nearest_of_its_rank_in_the_metric() -> None:
    named = parameters()
    free = {name: nn.Parameter(p.detach().clone()) for name, p in named.items()}
    optimizer, plain = ProxGen(named.items(), penalties(), lr=0.1), ProxGen(free.items(), lr=0.1)
    rule = optimizer.rank_rule = FixedRanks(named)
    set_gradients(named, 1)
    set_gradients(free, 1)
    optimizer.step()
    plain.step()
    for name in MATRICES:
        expected = nearest(free[name].detach(), RANKS[name], *rule.metrics[name])
        torch.testing.assert_close(named[name].detach(), expected, rtol=1e-9, atol=1e-10)
        values = rule.seen[name]
        assert bool((values[:-1] >= values[1:]).all())
    torch.testing.assert_close(named["free.weight"], free["free.weight"])
    assert optimizer.ranks()["conv.weight"] == (2, 5)
    assert optimizer.low_rank_level() == pytest.approx(1 - 9 / 15)


def test_between_two_choices_the_rank_stays_and_what_is_spanned() -> None:
    named = parameters()
    optimizer = RAMDA(named.items(), penalties(), lr=0.1, momentum=0.5)
    optimizer.rank_rule = FixedRanks(named, every=3)
    spanned = None
    for number in range(6):
        set_gradients(named, number)
        optimizer.step()
        left = optimizer.state[named["head.weight"]]["low_rank_left"]
        assert spanned is None or torch.equal(left, spanned) == (number % 3 != 0)
        spanned = left.clone()
    optimizer.snap_()
    for name in MATRICES:
        assert int(torch.linalg.matrix_rank(named[name].flatten(1), rtol=1e-10)) == RANKS[name]


def test_a_state_goes_on_as_it_was() -> None:
    named = parameters()
    first = RAMDA(named.items(), penalties(), lr=0.1)
    first.rank_rule = FixedRanks(named, every=4)
    set_gradients(named, 0)
    first.step()
    other = {name: nn.Parameter(p.detach().clone()) for name, p in named.items()}
    second = RAMDA(other.items(), penalties(), lr=0.1)
    second.rank_rule = FixedRanks(named, every=4)
    second.rank_rule.step = 1
    second.load_state_dict(first.state_dict())
    for parameters_, optimizer in ((named, first), (other, second)):
        set_gradients(parameters_, 1)
        optimizer.step()
    assert all(torch.equal(named[name], other[name]) for name in named)


def test_thresholding_now_and_then_keeps_the_rank_in_between() -> None:
    named = parameters()
    optimizer = RAMDA(named.items(), penalties(0.5), lr=0.1, momentum=1.0)
    optimizer.threshold_every = 4
    ranks = []
    for number in range(8):
        set_gradients(named, number)
        optimizer.step()
        ranks.append(tuple(rank for rank, _ in optimizer.ranks().values()))
        for name, rank in zip(MATRICES, ranks[-1], strict=True):
            found = torch.linalg.matrix_rank(named[name].detach().flatten(1), rtol=1e-10)
            assert int(found) == rank
    assert len(set(ranks[:4])) == len(set(ranks[4:])) == 1
    assert any(rank < full for rank, full in optimizer.ranks().values())


def test_thresholding_in_every_step_is_what_it_was() -> None:
    named = parameters()
    other = {name: nn.Parameter(p.detach().clone()) for name, p in named.items()}
    pair = [RAMDA(each.items(), penalties(0.2), lr=0.1) for each in (named, other)]
    pair[1].threshold_every = 1
    for number in range(3):
        for parameters_, optimizer in zip((named, other), pair, strict=True):
            set_gradients(parameters_, number)
            optimizer.step()
    assert all(torch.equal(named[name], other[name]) for name in named)
