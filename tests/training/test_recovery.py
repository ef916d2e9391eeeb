import copy

import pytest
import torch
from torch import nn

from ramda_cli.config.schema import TargetConfig, TrainingConfig
from ramda_cli.errors import ConfigError
from ramda_cli.structure import identify
from ramda_cli.structure.cost import CostModel
from ramda_cli.surgery import remove
from ramda_cli.training import Budget, Training, plan_budget
from tests.training.problems import Recorder, accuracy, digits, net, training_of


def half_of_the_macs(cost: CostModel) -> Budget:
    return plan_budget(cost, TargetConfig(macs=0.5), floor=0.1)


def recovered(
    config: TrainingConfig, **options
) -> tuple[Training, nn.Module, nn.Module, CostModel]:
    """Prune, take the zero channels out and recover; return the dense and the smaller model."""
    model = net()
    options = {"budget_of": half_of_the_macs, **options}
    training, structure, cost = training_of(model, config, **options)
    training.prune()
    smaller, plan = remove(model, structure, identify(model, structure))
    smaller = copy.deepcopy(smaller)
    training.recover(smaller, plan.kept)
    return training, model, smaller, cost


@pytest.mark.parametrize("method", ["ramda", "taylor", "magnitude"])
def test_the_epochs_after_the_removal_are_those_of_the_dense_model_with_its_zeros(
    method: str,
) -> None:
    config = TrainingConfig(method=method, epochs=4, freeze=0.3, lr=3e-3)
    training, dense_at_the_cut, smaller, _ = recovered(config)
    model = net()
    same, *_ = training_of(model, config, budget_of=half_of_the_macs)
    same.prune()
    cut = {k: v.clone() for k, v in model.state_dict().items()}
    assert all(torch.equal(v, cut[k]) for k, v in dense_at_the_cut.state_dict().items())
    same.go_on()
    images = next(iter(digits().val))[0]
    model.eval(), smaller.eval()
    # The same steps in float32, summed in another order.
    torch.testing.assert_close(smaller(images), model(images), rtol=0.02, atol=0.02)
    ours, theirs = training.result(), same.result()
    assert ours.steps == theirs.steps == 32
    assert (ours.removal_epoch, theirs.removal_epoch) == (2 if method != "magnitude" else 1, None)
    assert [e.macs_share for e in ours.history] == [e.macs_share for e in theirs.history]
    assert [e.lr for e in ours.history] == [e.lr for e in theirs.history]


@pytest.mark.parametrize(
    ("settings", "removal_epoch"),
    [
        ({"epochs": 4, "freeze": 0.3}, 2),
        ({"epochs": 4, "freeze": 0.25}, 1),
        ({"epochs": 4, "freeze": 0.3, "recover_epochs": 1}, 3),
        ({"epochs": 4, "freeze": 0.9, "recover_epochs": 2}, 2),
        ({"epochs": 4, "method": "magnitude"}, 1),
    ],
)
def test_the_removal_comes_at_the_end_of_the_freezes_epoch(settings, removal_epoch) -> None:
    training, _, smaller, _ = recovered(TrainingConfig(**settings))
    result = training.result()
    assert result.removal_epoch == removal_epoch
    assert [epoch.epoch for epoch in result.history] == list(range(5))
    assert result.zero_set_stability == 1.0
    assert result.history[-1].certificate is None
    assert accuracy(smaller, digits().val) == result.history[-1].metric


def test_nothing_is_left_after_a_freeze_in_the_last_epoch() -> None:
    training, *_ = training_of(
        net(), TrainingConfig(epochs=1, freeze=0.5), budget_of=half_of_the_macs
    )
    training.prune()
    assert training.epochs_left == 0
    assert training.result().removal_epoch is None


def test_recovery_without_a_target_starts_the_averages_anew() -> None:
    config = TrainingConfig(
        epochs=4, recover_epochs=2, milestones=(1,), lr=1e-2, eps=1e-4, weight=3e-2, momentum=0.1
    )
    training, model, smaller, _ = recovered(config, budget_of=None)
    history = training.result().history
    assert 0 < history[2].macs_share < 1
    assert history[3].macs_share == history[4].macs_share == history[2].macs_share
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
    optimizer = training._method.optimizer
    assert optimizer.param_groups[0]["step"] == 16
    assert optimizer.param_groups[0]["momentum"] == 0.1
    assert history[4].loss < history[2].loss


def test_without_a_target_the_zeros_are_held_in_the_same_model() -> None:
    config = TrainingConfig(epochs=4, recover_epochs=2, lr=1e-2, weight=3e-2)
    model = net()
    training, structure, _ = training_of(model, config)
    training.prune()
    before = identify(model, structure).removable
    training.go_on()
    assert identify(model, structure).removable == before
    assert any(before.values())
    assert [epoch.zero_set_change for epoch in training.result().history[3:]] == [0.0, 0.0]


def test_averaged_weights_are_the_result() -> None:
    plain = recovered(TrainingConfig(epochs=3, freeze=0.3, lr=2e-2))
    averaged = recovered(TrainingConfig(epochs=3, freeze=0.3, lr=2e-2, ema=0.9))
    first, second = plain[2].state_dict(), averaged[2].state_dict()
    assert not torch.equal(first["fc.weight"], second["fc.weight"])
    assert accuracy(averaged[2], digits().val) == averaged[0].result().history[-1].metric
    message = "training.ema averages the weights after the removal, and no epoch follows it"
    with pytest.raises(ConfigError, match=message):
        training_of(net(), TrainingConfig(epochs=1, ema=0.9), budget_of=half_of_the_macs)


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    settings = {"epochs": 3, "freeze": 0.3}
    _, model, smaller, _ = recovered(TrainingConfig(**settings, freeze_batch_norm=True))
    assert torch.equal(model.bn1.running_mean, net().bn1.running_mean)
    assert not smaller.bn1.running_mean.any()
    _, model, smaller, _ = recovered(TrainingConfig(**settings))
    assert smaller.bn1.running_mean.any()


def test_the_learning_rate_rises_over_the_warm_up() -> None:
    recorder = Recorder()
    recovered(TrainingConfig(epochs=4, lr=0.02, warm_up=2), observer=recorder)
    rates = [values["lr"] for _, values in recorder.steps]
    # Read in the last step of each epoch of eight, and once in between.
    assert recorder.epochs[1][1]["lr"] == pytest.approx(0.02 * (1 - 7 / 32) * 8 / 16)
    assert recorder.epochs[2][1]["lr"] == pytest.approx(0.02 * (1 - 15 / 32))
    assert max(rates) == pytest.approx(0.02 * (1 - 15 / 32))
