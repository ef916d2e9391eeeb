"""Rules that decide the zero set."""

from dataclasses import dataclass, field

import pytest
import torch

from ramda_cli.optimizers import RAMDA, FixedWeights, Threshold, ZeroTest
from tests.optimizers.problems import channel_values, groups, parameters, penalized, set_gradients


@dataclass
class Quantile:
    """The `count` lowest channels are zero; the others are not shrunk."""

    count: int
    seen: list[ZeroTest] = field(default_factory=list)

    def __call__(self, test: ZeroTest) -> Threshold:
        self.seen.append(test)
        zero = torch.zeros_like(test.was_zero)
        zero[test.crit.argsort()[: self.count]] = True
        return Threshold(zero, torch.zeros_like(test.crit))


def test_the_rule_decides_how_many_channels_are_zero():
    named = parameters(torch.float32)
    rule = Quantile(count=2)
    optimizer = RAMDA(named.items(), penalized(), lr=0.1, momentum=1.0, thresholds=rule)
    for step in range(4):
        set_gradients(named, step)
        optimizer.step()
        assert int(optimizer.solution_zero.sum()) == 2
        exact = [
            not channel_values(named, each, channel).any()
            for each in groups()
            for channel in range(each.channels)
        ]
        assert optimizer.solution_zero.tolist() == exact
        assert optimizer.certificate == 0.0
    assert not rule.seen[0].was_zero.any()
    assert int(rule.seen[1].was_zero.sum()) == 2


def test_a_rule_sees_crit_size_and_scale():
    named = parameters(torch.float64)
    rule = Quantile(count=0)
    optimizer = RAMDA(named.items(), penalized(), lr=0.1, momentum=1.0, thresholds=rule)
    for step in range(3):
        set_gradients(named, step)
        optimizer.step()
    state = {name: optimizer.state[p] for name, p in named.items()}
    d = {name: s["grad_sq_sum"] ** (1 / 3) + 1e-6 for name, s in state.items()}
    w = {name: d[name] * s["anchor"] - s["grad_sum"] for name, s in state.items()}
    rows = [channel_values(w, each, i) for each in groups() for i in range(each.channels)]
    test = rule.seen[-1]
    assert test.size.tolist() == [len(row) for row in rows]
    torch.testing.assert_close(test.crit, torch.stack([r.square().mean().sqrt() for r in rows]))
    assert test.scale == pytest.approx(0.1 * (1 + 2**0.5 + 3**0.5))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_rule_can_ask_for_the_first_order_change_of_the_loss(dtype: torch.dtype):
    named = parameters(dtype)
    seen = []

    def ask(test: ZeroTest) -> Threshold:
        seen.append(test.change())
        return Threshold(torch.zeros_like(test.was_zero), torch.zeros_like(test.crit))

    optimizer = RAMDA(named.items(), penalized(), lr=0.1, momentum=0.5, thresholds=ask)
    for step in range(2):
        set_gradients(named, step)
        # A gradient may lie in memory in another order than its parameter.
        grad = named["conv.weight"].grad
        named["conv.weight"].grad = grad.contiguous(memory_format=torch.channels_last)
        before = {
            name: optimizer.state[p].get("master", p).detach().double().clone()
            for name, p in named.items()
        }
        optimizer.step()
    gradients = {name: p.grad.double() for name, p in named.items()}
    products = {name: before[name] * gradients[name] for name in named}
    rows = [channel_values(products, each, i) for each in groups() for i in range(each.channels)]
    expected = torch.stack([row.sum() for row in rows])
    torch.testing.assert_close(seen[-1].double(), expected, rtol=1e-5, atol=1e-5)


def test_unshrunk_survivors_take_the_closed_form():
    named, free = parameters(), parameters()
    optimizer = RAMDA(named.items(), penalized(), lr=0.1, momentum=1.0, thresholds=Quantile(0))
    other = RAMDA(free.items(), lr=0.1, momentum=1.0)
    for each, stepper in ((named, optimizer), (free, other)):
        set_gradients(each, 0)
        stepper.step()
    for name in named:
        torch.testing.assert_close(named[name], free[name], rtol=1e-12, atol=1e-12)


def test_a_channel_shrunk_by_its_norm_or_more_is_zero():
    def too_much(test: ZeroTest) -> Threshold:
        shrinkage = test.crit * test.size.sqrt()
        shrinkage[0] *= 2.0
        shrinkage[1:] *= 0.5
        return Threshold(torch.zeros_like(test.was_zero), shrinkage)

    named = parameters(torch.float32)
    optimizer = RAMDA(named.items(), penalized(), lr=0.1, momentum=1.0, thresholds=too_much)
    set_gradients(named, 0)
    optimizer.step()
    assert optimizer.solution_zero.tolist() == [True] + [False] * 4
    assert all(torch.isfinite(p).all() for p in named.values())


def test_an_idle_channel_is_never_chosen():
    named = parameters(torch.float32)
    rule = Quantile(count=2)
    optimizer = RAMDA(named.items(), penalized(), lr=0.1, momentum=1.0, thresholds=rule)
    set_gradients(named, 0)
    named["norm.weight"].grad = None
    optimizer.step()
    assert rule.seen[0].crit[:3].isinf().all()
    assert optimizer.solution_zero.tolist() == [False] * 3 + [True] * 2


def test_fixed_weights_are_the_solutions_own_zero_set():
    crit = torch.tensor([1.0, 2.0, 3.0])
    sizes = torch.tensor([4.0, 9.0, 16.0])
    test = ZeroTest(crit, sizes, crit < 0, scale=2.0, change=lambda: crit)
    threshold = FixedWeights(torch.tensor([1.0, 1.0, 0.5]))(test)
    assert threshold.zero.tolist() == [True, True, False]
    assert threshold.shrinkage.tolist() == [4.0, 6.0, 4.0]
