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


def rule_of(budget: Budget, *, warm_up: int = 0, ramp: int = 1, freeze: int = 99) -> BudgetRule:
    return BudgetRule(budget, warm_up_steps=warm_up, ramp_steps=ramp, freeze_step=freeze)


def call(rule: BudgetRule, change: Tensor, crit: Tensor | None = None) -> Tensor:
    was_zero = torch.from_numpy(rule.zero.copy())
    crit = torch.ones_like(change) if crit is None else crit
    threshold = rule(ZeroTest(crit, torch.ones_like(crit), was_zero, 1.0, lambda: change))
    assert not threshold.shrinkage.any()
    assert np.array_equal(threshold.zero.numpy(), rule.zero)
    return threshold.zero


def random_change(seed: int = 0) -> Tensor:
    """Return changes of either sign, the squares of which are in [0.5, 1.5]."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (80,), generator=generator) * 2 - 1
    return signs * (torch.rand(80, generator=generator) + 0.5).sqrt()


@pytest.mark.parametrize("warm_up", [0, 4])
def test_after_the_warm_up_the_budget_comes_down_along_a_cubic_ramp(
    budget: Budget, warm_up: int
) -> None:
    rule = rule_of(budget, warm_up=warm_up, ramp=RAMP)
    assert rule.macs_share == 1.0
    for step in range(1, RAMP + 3):
        zero = call(rule, random_change(step))
        rest = 1 - min(1, max(0, step - warm_up) / (RAMP - warm_up))
        assert budget.of(zero.numpy()) == round(40 + 40 * rest**3)
        assert rule.macs_share == budget.macs_share(rule.zero)


def test_the_least_squared_change_over_all_steps_goes_first(budget: Budget) -> None:
    rule = rule_of(budget, warm_up=3, ramp=4)
    changes = [random_change(seed) for seed in range(4)]
    for change in changes:
        zero = call(rule, change)
    total = torch.stack(changes).double().square().sum(dim=0)
    assert torch.equal(zero, total <= total.sort().values[39])
    alone = rule_of(budget)
    assert not torch.equal(call(alone, changes[-1]), zero)


def test_a_channel_is_ranked_by_what_it_saves(budget: Budget) -> None:
    # Of a chain of three convolutions the middle channels save the most MACs.
    costly = planned(cost_of(24, 32, 24), "macs", 0.5)
    saving = costly.saving
    assert np.unique(budget.saving).size == 1
    for group, channel in ((0, 0), (1, 24), (2, 56)):
        alone = np.zeros(80, dtype=bool)
        alone[channel] = True
        assert costly.group_of_channel[channel] == group
        saved = costly.dense - costly.of(alone)
        assert saving[channel] == saved / (costly.dense - costly.counts)
    zero = call(rule_of(costly, freeze=1), torch.ones(80)).numpy()
    # All but the last, which is picked so that hardly less than the target is left.
    assert sorted(saving[zero])[1] == saving.max()


def test_a_zero_channel_revives_only_far_above_the_threshold(budget: Budget) -> None:
    rule = rule_of(budget)
    first_change = random_change()
    zero = call(rule, first_change)
    total = first_change.double().square()
    level = float(total[~zero].min())
    first = int(zero.nonzero()[0])
    more = torch.zeros(80)
    more[first] = ((1 + HYSTERESIS) * level * 0.99 - float(total[first])) ** 0.5
    assert torch.equal(call(rule, more), zero)
    more[first] = ((1 + HYSTERESIS) * level * 0.02) ** 0.5
    revived = call(rule, more)
    assert not revived[first]
    assert revived.sum() == zero.sum()


def test_after_the_freeze_nothing_changes(budget: Budget) -> None:
    rule = rule_of(budget, freeze=1)
    zero = call(rule, random_change(0))
    assert rule.frozen
    assert not torch.equal(call(rule_of(budget), random_change(1)), zero)
    for seed in range(1, 5):
        assert torch.equal(call(rule, 10 * random_change(seed)), zero)


def test_channels_without_a_gradient_are_never_chosen(budget: Budget) -> None:
    rule = rule_of(budget)
    crit, change = torch.ones(80), random_change()
    crit[:24] = torch.inf
    change[:24] = 0.0
    zero = call(rule, change, crit)
    assert not zero[:24].any()
    assert zero.sum() == 40


def test_a_resumed_rule_goes_on_as_the_first(budget: Budget) -> None:
    straight = rule_of(budget, warm_up=2, ramp=RAMP, freeze=RAMP)
    for seed in range(RAMP + 2):
        if seed == 5:
            saved = {k: v.clone() if k != "step" else v for k, v in straight.state_dict().items()}
        expected = call(straight, random_change(seed))
    resumed = rule_of(budget, warm_up=2, ramp=RAMP, freeze=RAMP)
    resumed.load_state_dict(saved)
    for seed in range(5, RAMP + 2):
        zero = call(resumed, random_change(seed))
    assert torch.equal(zero, expected)
    assert resumed.frozen


def test_the_freeze_does_not_come_before_the_target_is_reached(budget: Budget) -> None:
    with pytest.raises(ValueError, match="freeze_step must be at least ramp_steps, 5, got 4"):
        rule_of(budget, ramp=5, freeze=4)
