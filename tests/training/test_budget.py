import functools
import re

import numpy as np
import pytest
import timm
import torch
from torch import nn

from ramda_cli.config.schema import TargetConfig
from ramda_cli.errors import TargetError
from ramda_cli.structure import discover
from ramda_cli.structure.cost import CostModel
from ramda_cli.structure.widths import multiples
from ramda_cli.training import Budget, plan_budget


@functools.cache
def cost_of(*widths: int, side: int = 8) -> CostModel:
    """Return the cost of a chain of 3 x 3 convolutions with a linear head."""
    layers: list[nn.Module] = []
    for before, width in zip((1, *widths), widths, strict=False):
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10)]
    return CostModel(discover(nn.Sequential(*layers), torch.zeros(2, 1, side, side)))


@functools.cache
def cost_of_timm(name: str) -> CostModel:
    """Return the cost of a model with 10 classes for 32 x 32 images."""
    size = {"img_size": 32} if name.startswith("vit") else {}
    module = timm.create_model(name, num_classes=10, **size).eval()
    return CostModel(discover(module, torch.zeros(2, 3, 32, 32)))


def planned(cost: CostModel, metric: str, amount: float, floor: float = 0.1) -> Budget:
    target = TargetConfig.model_validate({metric: amount})
    return plan_budget(cost, target, floor=floor)


def scores_of(budget: Budget, seed: int = 0) -> np.ndarray:
    count = int(budget.cost.channels.sum())
    return np.random.default_rng(seed).random(count)


def kept_of(budget: Budget, zero: np.ndarray) -> np.ndarray:
    return budget.cost.channels - np.bincount(
        budget.group_of_channel[zero], minlength=len(budget.cost.channels)
    )


@pytest.mark.parametrize("metric", ["macs", "params", "channels"])
@pytest.mark.parametrize("seed", range(5))
def test_channels_go_by_ascending_score_until_within_the_count(metric: str, seed: int) -> None:
    budget = planned(cost_of(16, 24, 32), metric, 0.5)
    scores = scores_of(budget, seed)
    zero = budget.choose(scores, budget.counts)
    assert budget.of(zero) <= budget.counts
    assert budget.of(zero) == budget.cost.measure(metric, kept_of(budget, zero))
    last = max(np.flatnonzero(zero), key=lambda channel: scores[channel])
    one_less = zero.copy()
    one_less[last] = False
    assert budget.of(one_less) > budget.counts
    # Whatever stays with a lower score than something that went is held by its group's floor.
    kept = kept_of(budget, zero)
    for channel in np.flatnonzero(~zero & (scores < scores[last])):
        group = budget.group_of_channel[channel]
        assert kept[group] == budget.floor[group]


@pytest.mark.parametrize("floor", [0.0, 0.1, 0.5])
def test_the_floor_keeps_the_best_channels_of_every_group(floor: float) -> None:
    cost = cost_of(16, 24, 32)
    least = planned(cost, "channels", 1.0, floor).floor
    assert least.tolist() == [max(1, int(np.ceil(floor * n))) for n in (16, 24, 32)]
    budget = planned(cost, "channels", float(least.sum()), floor)
    scores = scores_of(budget)
    zero = budget.choose(scores, budget.counts, exact=True)
    for group, count in enumerate(least):
        own = np.flatnonzero(budget.group_of_channel == group)
        best = own[np.argsort(scores[own])[-count:]]
        assert set(own[~zero[own]]) == set(best)


def test_an_infinite_score_stays_whatever_is_asked() -> None:
    budget = planned(cost_of(16, 24, 32), "channels", 0.2)
    scores = scores_of(budget)
    scores[:16] = np.inf
    scores[20] = np.nan
    for exact in (False, True):
        zero = budget.choose(scores, np.array([1]), exact=exact)
        assert not zero[:16].any()
        assert not zero[20]
        assert zero[16:].sum() == 56 - budget.floor[1:].sum()


def test_exact_looks_past_a_large_step() -> None:
    # A channel of the middle group is a fifth of the parameters, one of the last group 0.8 %.
    cost = cost_of(64, 4, 64)
    budget = planned(cost, "params", 0.79, floor=0.0)
    scores = np.concatenate([np.full(64, 9.0), [1.0, 2.0, 3.0, 4.0], np.linspace(5, 8, 64)])
    prefix = budget.choose(scores, budget.counts)
    chosen = budget.choose(scores, budget.counts, exact=True)
    assert budget.of(prefix) < 0.9 * budget.counts
    assert 0.995 * budget.counts <= budget.of(chosen) <= budget.counts
    # The order still holds but for the channels that would undershoot.
    assert chosen[64:].sum() > 0
    assert not chosen[:64].any()


def test_exact_makes_up_for_a_large_step_that_comes_last() -> None:
    # The small steps are all gone when the first large one, of a fifth, has to go.
    cost = cost_of(64, 4, 64)
    budget = planned(cost, "params", 0.5, floor=0.5)
    small = np.linspace(1.0, 2.0, 64)
    scores = np.concatenate([small, [3.0, 4.0, 5.0, 6.0], small])
    prefix = budget.choose(scores, budget.counts)
    chosen = budget.choose(scores, budget.counts, exact=True)
    assert budget.of(prefix) < 0.9 * budget.counts
    assert 0.99 * budget.counts <= budget.of(chosen) <= budget.counts
    # What is given back are the best of the small ones, in each group.
    given_back = prefix & ~chosen
    assert not (chosen & ~prefix).any()
    assert given_back.any()
    for group in (slice(0, 64), slice(68, 132)):
        assert scores[group][chosen[group]].max() <= scores[group][~chosen[group]].min()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75, 0.9])
def test_exact_never_exceeds_and_is_never_worse_than_the_order(seed: int, share: float) -> None:
    budget = planned(cost_of(6, 8, 7), "macs", share, floor=0.0)
    scores = scores_of(budget, seed)
    prefix = budget.choose(scores, budget.counts)
    chosen = budget.choose(scores, budget.counts, exact=True)
    assert budget.of(prefix) <= budget.of(chosen) <= budget.counts


def test_nothing_goes_where_nothing_has_to() -> None:
    budget = planned(cost_of(6, 8), "macs", 1.0)
    assert budget.counts == budget.dense
    for exact in (False, True):
        assert not budget.choose(scores_of(budget), budget.counts, exact=exact).any()
    assert budget.macs_share(np.zeros(14, dtype=bool)) == 1.0


def test_macs_are_reported_whatever_is_budgeted() -> None:
    cost = cost_of(6, 8)
    budget = planned(cost, "channels", 0.5)
    zero = budget.choose(scores_of(budget), budget.counts)
    expected = cost.macs(kept_of(budget, zero)) / cost.macs(cost.channels)
    assert budget.macs_share(zero) == expected < 1


@pytest.mark.parametrize(
    ("metric", "amount", "message", "hint"),
    [
        (
            "macs",
            0.001,
            "target macs=0.001 cannot be reached: with every removable channel gone down to the "
            "floor, 1,748 of 78,496 macs are left",
            "ask for --target macs=0.023 or more; --floor 0 would give 0.015",
        ),
        (
            "params",
            20.0,
            "target params=20 cannot be reached: with every removable channel gone down to the "
            "floor, 60 of 1,418 params are left",
            "ask for --target params=0.043 or more; --floor 0 would give 0.029",
        ),
        (
            "params",
            1e7,
            "target params=10,000,000 is more than the model has: 1,418 params",
            "ask for less, for example --target params=0.5",
        ),
    ],
)
def test_targets_out_of_reach_are_refused(
    metric: str, amount: float, message: str, hint: str
) -> None:
    with pytest.raises(TargetError, match=f"^{re.escape(message)}$") as caught:
        planned(cost_of(8, 16), metric, amount)
    assert caught.value.hint == hint


def test_what_the_hint_of_an_unreachable_target_offers_can_be_had() -> None:
    cost = cost_of(8, 16)
    with pytest.raises(TargetError) as caught:
        planned(cost, "macs", 0.001)
    offered = re.search(r"macs=(\S+)", caught.value.hint or "")
    assert offered is not None
    budget = planned(cost, "macs", float(offered[1]))
    assert budget.of(budget.choose(scores_of(budget), budget.counts)) <= budget.counts


@pytest.mark.parametrize(
    ("round_to", "amount", "hint"),
    [
        (1, 0.2, "ask for --target channels=0.5 or more, or lower --floor"),
        (1, 0.01, "ask for --target channels=0.5 or more; --floor 0 would give 0.021"),
        (8, 0.1, "ask for --target channels=0.5 or more, or lower --floor and --round-to"),
        (8, 0.4, "ask for --target channels=0.5 or more, or lower --floor"),
    ],
)
def test_a_lower_floor_is_offered_where_it_helps(round_to: int, amount: float, hint: str) -> None:
    cost = cost_of(48, 48)
    counts = cost.channels.astype(np.int64)
    widths = multiples(counts, np.full(2, round_to), np.arange(2))
    with pytest.raises(TargetError) as caught:
        plan_budget(cost, TargetConfig(channels=amount), floor=0.5, widths=widths)
    assert caught.value.hint == hint


def test_nothing_more_is_offered_at_the_lowest_floor() -> None:
    with pytest.raises(TargetError) as caught:
        planned(cost_of(8, 8), "channels", 0.1, floor=0.0)
    assert caught.value.hint == "ask for --target channels=0.125 or more"


@pytest.mark.parametrize(("amount", "count"), [(0.29, 29), (0.57, 57), (0.58, 58)])
def test_a_share_counts_as_it_is_written(amount: float, count: int) -> None:
    # In binary 0.29 * 100 is below 29.
    assert planned(cost_of(50, 50), "channels", amount, floor=0.0).counts == count


@pytest.mark.parametrize("seed", range(10))
def test_several_targets_all_hold_and_one_is_hardly_missed(seed: int) -> None:
    cost = cost_of(64, 96, 64)
    target = TargetConfig(macs=0.5, params=0.4, channels=0.95)
    budget = plan_budget(cost, target, floor=0.0)
    assert [limit.metric for limit in budget.limits] == ["macs", "params", "channels"]
    zero = budget.choose(scores_of(budget, seed), budget.counts, exact=True)
    left = budget.of(zero) / budget.counts
    assert (left <= 1).all()
    without_one = cost.channels - np.eye(3)
    step = max(budget.dense[1] - cost.measure("params", kept) for kept in without_one)
    assert left.max() >= 1 - step / budget.counts[1]


def test_what_a_channel_saves_of_several_targets_adds_up() -> None:
    cost = cost_of(16, 24, 32)
    both = plan_budget(cost, TargetConfig(macs=0.5, params=0.4), floor=0.0).saving
    macs = plan_budget(cost, TargetConfig(macs=0.5), floor=0.0).saving
    params = plan_budget(cost, TargetConfig(params=0.4), floor=0.0).saving
    np.testing.assert_allclose(both, macs + params, rtol=1e-12)
    # A target that is met already ranks nothing.
    met = plan_budget(cost, TargetConfig(macs=0.5, params=1.0), floor=0.0).saving
    np.testing.assert_array_equal(met, macs)


def test_megabytes_are_named_as_such_when_refused() -> None:
    cost = cost_of(64, 128)
    dense = cost.measure("size_mb", cost.channels)
    with pytest.raises(TargetError, match=f"^target size-mb=25 is more than .* {dense / 1e6:.4g} "):
        planned(cost, "size_mb", 25.0)
    budget = planned(cost, "size_mb", 0.5)
    assert budget.counts.tolist() == [dense // 2]


# With one head left in every layer, and residual widths that LayerNorm fixes.
OUT_OF_REACH = {("macs", 0.1), ("params", 0.2), ("params", 0.1)}


@pytest.mark.parametrize("amount", [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
@pytest.mark.parametrize("metric", ["macs", "params"])
@pytest.mark.parametrize(
    "name",
    ["resnet18", "vit_tiny_patch16_224",
     *(pytest.param(n, marks=pytest.mark.slow) for n in ("mobilenetv3_small_100", "vgg11_bn"))],
)  # fmt: skip
def test_real_models_come_close_to_every_target(name: str, metric: str, amount: float) -> None:
    cost = cost_of_timm(name)
    if name.startswith("vit") and (metric, amount) in OUT_OF_REACH:
        with pytest.raises(TargetError, match="cannot be reached"):
            planned(cost, metric, amount)
        return
    budget = planned(cost, metric, amount)
    for seed, spread in enumerate((0.0, 1.0, 4.0)):
        # Layers as different as the importances of trained models are, and more.
        layers = np.exp(np.random.default_rng(seed).normal(0.0, spread, budget.floor.size))
        scores = scores_of(budget, seed) * layers[budget.group_of_channel]
        zero = budget.choose(scores, budget.counts, exact=True)
        assert 0.99 * budget.counts <= budget.of(zero) <= budget.counts
        assert (kept_of(budget, zero) >= np.ceil(0.1 * cost.channels)).all()


@pytest.mark.parametrize("bias", [0.8, 0.97, 1.0, 1.1, 1.3])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_measured_comes_close_below_what_was_asked(bias: float, seed: int) -> None:
    cost = cost_of(64, 96, 128)

    def measured(kept: np.ndarray) -> float:
        """Tell more than the estimate does, and the more the fewer are kept."""
        return bias * cost.measure("macs", kept) * (1.2 - 0.2 * kept.sum() / cost.channels.sum())

    target = TargetConfig.model_validate({"macs": 0.5})
    budget = plan_budget(cost, target, floor=0.1, measured={"macs": measured})
    found = measured(kept_of(budget, budget.settle(scores_of(budget, seed))))
    assert 0.97 * budget.counts[0] <= found <= budget.counts[0]


def test_a_set_that_is_measured_to_cost_too_much_gives_way_to_one_that_is_close() -> None:
    """The clock jumps between widths, so that no set is close below what was asked."""
    cost = cost_of(64, 96, 128)

    def measured(kept: np.ndarray) -> float:
        half = 0.5 * cost.measure("macs", cost.channels)
        return half * (0.9 if cost.measure("macs", kept) < 0.8 * half else 1.2)

    target = TargetConfig.model_validate({"macs": 0.5})
    budget = plan_budget(cost, target, floor=0.1, measured={"macs": measured})
    found = measured(kept_of(budget, budget.settle(scores_of(budget))))
    assert found == pytest.approx(0.9 * budget.counts[0], rel=1e-3)


def test_a_measured_limit_leaves_the_others_as_they_are() -> None:
    cost = cost_of(64, 96, 128)
    calls = []

    def measured(kept: np.ndarray) -> float:
        calls.append(kept)
        return 0.5 * cost.measure("params", kept)

    target = TargetConfig.model_validate({"macs": 0.4, "params": 0.9})
    budget = plan_budget(cost, target, floor=0.1, measured={"params": measured})
    zero = budget.settle(scores_of(budget))
    assert (budget.of(zero)[0] <= budget.counts[0]).all()
    assert budget.of(zero)[0] >= 0.98 * budget.counts[0]
    # More of what is cheap does not help: the other limit is what binds, and one try tells.
    assert len(calls) == 1


def test_a_cost_that_cannot_be_measured_leaves_the_estimate() -> None:
    cost = cost_of(64, 96, 128)
    target = TargetConfig.model_validate({"macs": 0.5})
    budget = plan_budget(cost, target, floor=0.1, measured={"macs": lambda _: None})
    scores = scores_of(budget)
    chosen = budget.choose(scores, budget.counts, exact=True)
    assert (budget.settle(scores) == chosen).all()
