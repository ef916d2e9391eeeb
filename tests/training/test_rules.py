import numpy as np
import pytest
import torch
from torch import Tensor

from ramda_cli.optimizers import ZeroTest
from ramda_cli.training import Budget
from ramda_cli.training.rules import HYSTERESIS, BudgetRule
from tests.training.test_budget import cost_of, planned

RAMP = 10


@pytest.fixture(scope="module")
def budget() -> Budget:
    return planned(cost_of(24, 32, 24), "channels", 0.5)


def call(rule: BudgetRule, crit: Tensor) -> Tensor:
    was_zero = torch.from_numpy(rule.zero.copy())
    threshold = rule(ZeroTest(crit, torch.ones_like(crit), was_zero, scale=1.0))
    assert not threshold.shrinkage.any()
    assert np.array_equal(threshold.zero.numpy(), rule.zero)
    return threshold.zero


def random_crit(seed: int = 0) -> Tensor:
    return torch.rand(80, generator=torch.Generator().manual_seed(seed)) + 0.5


def test_the_budget_comes_down_along_a_cubic_ramp(budget: Budget) -> None:
    rule = BudgetRule(budget, ramp_steps=RAMP)
    assert rule.macs_share == 1.0
    for step in range(1, RAMP + 3):
        zero = call(rule, random_crit())
        rest = 1 - min(1, step / RAMP)
        assert budget.of(zero.numpy()) == round(40 + 40 * rest**3)
        assert rule.macs_share == budget.macs_share(rule.zero)


def test_a_zero_channel_revives_only_far_above_the_threshold(budget: Budget) -> None:
    rule = BudgetRule(budget, ramp_steps=1)
    crit = random_crit()
    zero = call(rule, crit)
    level = float(crit[~zero].min())
    first = int(zero.nonzero()[0])
    crit[first] = (1 + HYSTERESIS) * level * 0.99
    assert torch.equal(call(rule, crit), zero)
    crit[first] = (1 + HYSTERESIS) * level * 1.01
    revived = call(rule, crit)
    assert not revived[first]
    assert revived.sum() == zero.sum()


def test_after_the_freeze_nothing_changes(budget: Budget) -> None:
    rule = BudgetRule(budget, ramp_steps=1)
    zero = call(rule, random_crit(0))
    assert not torch.equal(call(BudgetRule(budget, ramp_steps=1), random_crit(1)), zero)
    rule.freeze()
    assert torch.equal(call(rule, random_crit(1)), zero)


def test_channels_without_a_gradient_are_never_chosen(budget: Budget) -> None:
    rule = BudgetRule(budget, ramp_steps=1)
    crit = random_crit()
    crit[:24] = torch.inf
    zero = call(rule, crit)
    assert not zero[:24].any()
    assert zero.sum() == 40
