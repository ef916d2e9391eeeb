"""The rule of ranks: the hull of what a rank is worth, the budget, and what stays."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ramda_cli.config.schema import TargetConfig
from ramda_cli.optimizers import ZeroTest
from ramda_cli.pipeline.ranks import hold_channels
from ramda_cli.structure import discover
from ramda_cli.structure.cost import CostModel
from ramda_cli.structure.matrices import Matrix
from ramda_cli.structure.widths import plan_widths, with_ranks
from ramda_cli.training import Budget, plan_budget
from ramda_cli.training.rank_rule import RankBudgetRule, hull

MATRICES = (Matrix("0.weight", 64, 48), Matrix("2.weight", 40, 64), Matrix("4.weight", 10, 40))


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10)
    )


def budget_of(
    amount: float, *, matrices: tuple[Matrix, ...] = MATRICES, round_to: int = 1, floor: float = 0.1
) -> Budget:
    structure = hold_channels(discover(net(), torch.zeros(2, 48)), matrices)
    widths = plan_widths(structure.groups, round_to=1, uniform=False)
    return plan_budget(
        CostModel(structure, matrices),
        TargetConfig(params=amount),
        floor=floor,
        widths=with_ranks(widths, matrices, round_to=round_to),
    )


def rule_of(budget: Budget, *, warm_up: int = 0, ramp: int = 1, freeze: int = 1) -> RankBudgetRule:
    return RankBudgetRule(
        budget, warm_up_steps=warm_up, ramp_steps=ramp, freeze_step=freeze, every=1
    )


def squares(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        m.parameter: torch.rand(m.full_rank, generator=generator).sort(descending=True).values
        for m in MATRICES
    }


def step(rule: RankBudgetRule, seed: int = 0) -> dict[str, int]:
    rule.take({m.parameter: torch.ones(m.rows, m.cols) for m in MATRICES})
    return dict(rule.choose(squares(seed))) if rule.due else {}


def test_the_hull_is_the_least_worth_per_saving_of_every_way_to_go_on() -> None:
    worth = np.sort(np.random.default_rng(0).random(12)) ** 2
    scores = hull(worth, first=7, first_saving=0.3, saving=2.0)
    assert (np.diff(scores) >= 0).all()
    total = np.cumsum(worth)
    saved = np.array([0.3 + 2.0 * (k - 7) for k in range(7, 13)])
    best = (total[6:] / saved).min()
    assert scores[0] == pytest.approx(best)
    together = int((scores == scores[0]).sum())
    assert together > 7  # the first seven save next to nothing by themselves
    np.testing.assert_allclose(scores[together:], worth[together:] / 2.0)


@pytest.mark.parametrize("amount", [0.9, 0.7, 0.5, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_the_budget_is_met_closely_by_ranks_that_pay(amount: float, seed: int) -> None:
    budget = budget_of(amount)
    rule = rule_of(budget)
    ranks = step(rule, seed)
    kept = np.array([ranks[m.parameter] for m in MATRICES], dtype=np.float64)
    params = budget.cost.measure("params", kept)
    assert 0.97 * budget.counts[0] <= params <= budget.counts[0]
    for m in MATRICES:
        rank = ranks[m.parameter]
        assert rank == m.full_rank or rank <= m.largest_paying_rank
        assert rank >= 0.1 * m.full_rank
    assert not rule.zero.any()


def test_ranks_may_be_multiples() -> None:
    ranks = step(rule_of(budget_of(0.65, round_to=8, floor=0.2)))
    assert all(rank % 8 == 0 or rank in (48, 40, 10) for rank in ranks.values())
    assert len(set(ranks.values())) > 1


def test_the_least_singular_values_for_what_they_save_go_first() -> None:
    rule = rule_of(budget_of(0.5))
    rule.take({m.parameter: torch.ones(m.rows, m.cols) for m in MATRICES})
    values = squares()
    small, large = values["0.weight"] * 1e-4, values["2.weight"]
    ranks = rule.choose({"0.weight": small, "2.weight": large, "4.weight": values["4.weight"]})
    assert ranks["0.weight"] < 10
    assert ranks["2.weight"] > 15


def test_ranks_come_down_along_a_ramp_and_stay_after_the_freeze() -> None:
    rule = rule_of(budget_of(0.4), warm_up=2, ramp=8, freeze=9)
    shares = []
    for number in range(1, 10):
        step(rule, number)
        shares.append(rule.macs_share)
    assert shares[:2] == [1.0, 1.0]
    assert all(after <= before + 0.02 for before, after in pairwise(shares))
    assert shares[-1] < 0.45
    final = step(rule, 77)
    assert final == step(rule, 78)


def test_the_metric_is_a_product_of_row_and_column_sums() -> None:
    rule = rule_of(budget_of(0.5), freeze=9)
    gradient = torch.outer(torch.arange(1.0, 65), torch.linspace(0.5, 2, 48))
    rule.take({"0.weight": gradient})
    rule.take({"0.weight": 2 * gradient})
    rows, cols = rule.metric("0.weight")
    torch.testing.assert_close(
        torch.outer(rows.square(), cols.square()), 5 * gradient.square(), rtol=1e-4, atol=1e-6
    )


def test_channels_and_ranks_share_a_budget() -> None:
    budget = budget_of(0.7, matrices=MATRICES[2:])
    rule = rule_of(budget, ramp=3, freeze=3)
    channels = len(rule.zero)
    change = torch.rand(channels, generator=torch.Generator().manual_seed(1))
    ones = torch.ones(channels)
    for _ in range(3):
        rule.take({"4.weight": torch.ones(10, 40)})
        rule.choose({"4.weight": 1e-6 * squares()["4.weight"]})
        test = ZeroTest(ones, ones, torch.zeros(channels, dtype=torch.bool), 1.0, lambda: change)
        threshold = rule(test)
    assert threshold.zero.any()
    assert not threshold.zero.all()
    assert 0 < budget.of(rule._zero)[0] <= budget.counts[0]
    assert rule._ranks()["4.weight"] < 10


def test_the_state_is_restored() -> None:
    first = rule_of(budget_of(0.4), warm_up=1, ramp=6, freeze=7)
    second = rule_of(budget_of(0.4), warm_up=1, ramp=6, freeze=7)
    for number in range(4):
        step(first, number)
    second.load_state_dict(first.state_dict())
    assert step(first, 9) == step(second, 9)
