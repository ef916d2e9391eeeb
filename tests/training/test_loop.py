import copy
import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ramda_cli.config.schema import DataConfig, TargetConfig, TrainingConfig
from ramda_cli.data.build import build_data
from ramda_cli.data.bundle import DataBundle
from ramda_cli.errors import TrainingError
from ramda_cli.models.loaded import Preprocessing
from ramda_cli.optimizers import RAMDA
from ramda_cli.structure import identify
from ramda_cli.structure.cost import CostModel
from ramda_cli.training import Budget, Epoch, plan_budget
from ramda_cli.training.mixing import Mixing
from tests.training.problems import Recorder, accuracy, digits, net, run, training_of


def half_of_the_macs(cost: CostModel) -> Budget:
    return plan_budget(cost, TargetConfig(macs=0.5), floor=0.1)


@pytest.mark.parametrize("metric", ["macs", "channels"])
@pytest.mark.parametrize(("epochs", "freeze"), [(1, 0.4), (1, 1.0), (3, 0.05)])
def test_a_run_with_a_budget_ends_on_it_with_exact_zeros(
    epochs: int, freeze: float, metric: str
) -> None:
    model, recorder = net(), Recorder()
    target = TargetConfig.model_validate({metric: 0.5})

    def budget_of(cost: CostModel) -> Budget:
        return plan_budget(cost, target, floor=0.1)

    trained, structure, cost = run(
        model,
        TrainingConfig(epochs=epochs, freeze=freeze),
        budget_of=budget_of,
        observer=recorder,
    )
    (limit,) = budget_of(cost).limits
    kept = cost.kept(identify(model, structure).removable)
    # One channel is 4 % of the MACs here, and exactly one channel of the channels.
    slack = 0.1 * limit.count if metric == "macs" else 0
    assert limit.count - slack <= cost.measure(metric, kept) <= limit.count
    share = cost.macs(kept) / cost.macs(cost.channels)
    assert trained.history[-1].macs_share == pytest.approx(share)
    assert trained.zero_set_stability == 1.0
    assert trained.steps == epochs * 8
    assert trained.removal_epoch is None  # nothing was taken out of this model
    # Each part of a run counts its own steps.
    assert recorder.steps[-1][0] == {0.05: 16}.get(freeze, 8)
    assert [epoch for epoch, _ in recorder.epochs] == list(range(epochs + 1))


def test_the_zero_set_changes_until_the_freeze() -> None:
    model = net()
    trained, structure, cost = run(
        model, TrainingConfig(epochs=3, freeze=0.3), budget_of=half_of_the_macs
    )
    kept = cost.kept(identify(model, structure).removable)
    first, *later = [epoch.zero_set_change for epoch in trained.history[1:]]
    assert trained.history[0].zero_set_change is None
    assert first == pytest.approx(1 - kept.sum() / cost.channels.sum())
    assert later == [0.0, 0.0]


def test_a_run_learns_and_tells_the_accuracy_of_the_model_it_leaves() -> None:
    model, data = net(), digits()
    trained, *_ = run(
        model, TrainingConfig(epochs=6, lr=1e-2), budget_of=half_of_the_macs, data=data
    )
    first, last = trained.history[0], trained.history[-1]
    assert first.loss is None
    assert first.metric < 0.3 < 0.6 < last.metric
    assert last.metric == accuracy(model, data.val)
    assert trained.history[1].loss > last.loss  # type: ignore[operator]


def test_two_runs_are_equal_bit_by_bit() -> None:
    states, histories = [], []
    for _ in range(2):
        model = net()
        trained, *_ = run(model, TrainingConfig(epochs=2, seed=3), budget_of=half_of_the_macs)
        states.append(model.state_dict())
        histories.append(trained.history)
    assert histories[0] == histories[1]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    other = net()
    run(other, TrainingConfig(epochs=2, seed=4), budget_of=half_of_the_macs)
    assert not torch.equal(other.fc.weight, states[0]["fc.weight"])


class Spy:
    """Records the optimizer's settings before each step, and what the last step left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings: list[tuple[float, float, float]] = []
        self.restarts: list[int] = []
        self.zero: torch.Tensor | None = None
        self.snapped = True
        step, restart, snap = RAMDA.step, RAMDA.restart, RAMDA.snap_

        def spied_step(optimizer: RAMDA) -> None:
            (group,) = optimizer.param_groups
            self.settings.append((group["lr"], group["eps"], group["momentum"]))
            step(optimizer)

        def spied_restart(optimizer: RAMDA) -> None:
            self.restarts.append(len(self.settings))
            restart(optimizer)

        def spied_snap(optimizer: RAMDA) -> None:
            before = [p.detach().clone() for _, p, _ in optimizer._named()]
            snap(optimizer)
            after = [p for _, p, _ in optimizer._named()]
            self.snapped = any(not torch.equal(*pair) for pair in zip(before, after, strict=True))

        monkeypatch.setattr(RAMDA, "step", spied_step)
        monkeypatch.setattr(RAMDA, "restart", spied_restart)
        monkeypatch.setattr(RAMDA, "snap_", spied_snap)


def test_with_a_weight_the_stages_are_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    config = TrainingConfig(
        epochs=4, lr=1e-2, eps=1e-4, momentum=0.1, weight=3e-2, milestones=(1, 3)
    )
    model = net()
    trained, structure, cost = run(model, config)
    steps = 8
    assert spy.restarts == [steps, 3 * steps]
    stages = [0] * steps + [1] * 2 * steps + [2] * steps
    for (lr, eps, momentum), stage, step in zip(spy.settings, stages, range(32), strict=True):
        assert lr == pytest.approx(1e-2 * 0.1**stage)
        assert eps == pytest.approx(1e-4 * 0.1**stage)
        rising = min(1.0, 0.1 * math.sqrt(step - 24 + 1)) if stage == 2 else 0.1
        assert momentum == pytest.approx(1.0 if step == 31 else rising)
    # The last iterate was a prox output: there was nothing left to snap.
    assert not spy.snapped
    removable = identify(model, structure).removable
    assert 0 < sum(len(channels) for channels in removable.values()) < 28
    assert trained.history[-1].macs_share == pytest.approx(
        cost.macs(cost.kept(removable)) / cost.macs(cost.channels)
    )
    assert 0 < trained.history[-1].group_sparsity < 1
    assert trained.zero_set_stability is None


def test_with_a_budget_lr_decays_and_the_averages_restart_at_the_freeze(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spy = Spy(monkeypatch)
    run(net(), TrainingConfig(epochs=5, lr=0.02, freeze=0.5), budget_of=half_of_the_macs)
    assert spy.restarts == [20]
    rates = [lr for lr, _, _ in spy.settings]
    assert rates == pytest.approx([0.02 * (1 - step / 40) for step in range(40)])


def test_a_frozen_layer_stays_as_it_is_and_its_channels_stay() -> None:
    model = net()
    model.fc.requires_grad_(False)
    before = model.fc.weight.clone()
    # conv2's channels are read by the frozen head: only conv1's can go.
    trained, structure, _ = run(
        model,
        TrainingConfig(epochs=2),
        budget_of=lambda cost: plan_budget(cost, TargetConfig(channels=0.75), floor=0.1),
    )
    assert torch.equal(model.fc.weight, before)
    assert {k: len(v) for k, v in identify(model, structure).removable.items()} == {"conv1": 7}
    assert trained.history[-1].macs_share < 0.5


@dataclasses.dataclass
class Poisoned:
    """The training batches, with a NaN in one of the third epoch."""

    data: DataBundle
    numbers: tuple[int, ...] = (2,)
    poisoned_epoch: int = 2
    epoch: int = 0
    first: int = 0

    def set_epoch(self, epoch: int, *, first: int = 0) -> None:
        self.epoch, self.first = epoch, first
        self.data.train.set_epoch(epoch, first=first)

    def __len__(self) -> int:
        return len(self.data.train)

    def __iter__(self):
        first, self.first = self.first, 0
        for number, (images, labels) in enumerate(self.data.train, start=first):
            poisoned = self.epoch == self.poisoned_epoch and number in self.numbers
            yield (images * math.nan if poisoned else images), labels


def poisoned_run(config: TrainingConfig, numbers: tuple[int, ...], **options: Any) -> Any:
    data = digits()
    poisoned = dataclasses.replace(data, train=Poisoned(data, numbers))
    return training_of(net(), config, budget_of=half_of_the_macs, data=poisoned, **options)[0]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_without_a_finite_gradient_is_not_taken(accumulate: int) -> None:
    config = TrainingConfig(epochs=3, lr=1e-2, accumulate=accumulate, freeze=1.0)
    training = poisoned_run(config, (2,))
    before: dict[str, torch.Tensor] = {}
    bad_step = 2 * 8 // accumulate + 2 // accumulate

    def watch() -> None:
        state = {k: v.clone() for k, v in training._model.state_dict().items()}
        if training._passes.step == bad_step:
            before.update(state)
        elif training._passes.step == bad_step + 1:
            counted = {k for k in state if k.endswith("num_batches_tracked")}
            assert all(torch.equal(state[k], before[k]) for k in state.keys() - counted)

    training._after_step = watch
    training.prune()
    assert before
    history = training.result().history
    assert [epoch.skipped_steps for epoch in history] == [0, 0, 0, 1]
    assert all(math.isfinite(epoch.loss) for epoch in history[1:])
    assert history[-1].loss < history[1].loss


@pytest.mark.parametrize("number", [1, 6, 7])
def test_a_step_that_is_not_taken_does_not_move_the_freeze(number: int) -> None:
    """Nor where it is that of the freeze itself, the last of its epoch but one."""
    data, model = digits(), net()
    poisoned = dataclasses.replace(data, train=Poisoned(data, (number,), poisoned_epoch=0))
    config = TrainingConfig(epochs=3, lr=1e-2, freeze=7 / 24)
    training, structure, cost = training_of(
        model, config, budget_of=half_of_the_macs, data=poisoned
    )
    training.prune()
    assert training.result().history[1].skipped_steps == 1
    (limit,) = half_of_the_macs(cost).limits
    kept = cost.kept(identify(model, structure).removable)
    assert 0.9 * limit.count <= cost.measure("macs", kept) <= limit.count


def test_where_too_many_steps_are_bad_the_last_state_comes_back_with_smaller_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spy, recorder = Spy(monkeypatch), Recorder()
    kept: list[dict[str, Any]] = []
    training = poisoned_run(
        TrainingConfig(epochs=3, lr=1e-2, skip_limit=1, freeze=1.0), (2, 3),
        observer=recorder, last_good=lambda: copy.deepcopy(kept[-1]),
        after_epoch=lambda _: kept.append(copy.deepcopy(training.state_dict())),
    )  # fmt: skip
    with pytest.raises(TrainingError, match=r"^loss or gradient became infinite or NaN 2 times in "
                       r"a row at step 20 of 24, in epoch 3$"):  # fmt: skip
        training.prune()
    assert recorder.notes == [
        f"loss or gradient became infinite or NaN 2 times in a row at step 20 of 24, in epoch 3:"
        f" back at step 16, with step sizes times {factor}"
        for factor in (0.5, 0.25)
    ]
    # Two good steps of the third epoch were taken three times.
    first, second, third = ([lr for lr, _, _ in spy.settings[at : at + 2]] for at in (16, 18, 20))
    assert second == pytest.approx([lr / 2 for lr in first])
    assert third == pytest.approx([lr / 4 for lr in first])


def test_without_a_state_to_go_back_to_a_nan_stops_the_run() -> None:
    kept: dict[int, dict[str, torch.Tensor]] = {}

    def keep(epoch: Epoch) -> None:
        state = training._model.state_dict()
        kept[epoch.epoch] = {k: v.clone() for k, v in state.items()}

    config = TrainingConfig(epochs=5, lr=1e-2, skip_limit=0, freeze=1.0)
    training = poisoned_run(config, (2,), after_epoch=keep)
    message = "loss or gradient became infinite or NaN at step 19 of 40, in epoch 3"
    with pytest.raises(TrainingError, match=f"^{message}$") as caught:
        training.prune()
    assert caught.value.hint == "lower --lr (now 0.01)"
    assert list(kept) == [0, 1, 2]
    assert all(torch.isfinite(tensor).all() for tensor in kept[2].values())


def test_weights_that_are_not_finite_stop_the_run() -> None:
    model = net()

    def spoil(epoch: Epoch) -> None:
        if epoch.epoch == 1:
            model.register_parameter("unused", nn.Parameter(torch.tensor([math.inf])))

    message = re.escape("the weights became infinite or NaN at step 16 of 24, in epoch 2")
    with pytest.raises(TrainingError, match=f"^{message}$"):
        run(model, TrainingConfig(epochs=3), budget_of=half_of_the_macs, after_epoch=spoil)


@pytest.mark.parametrize(
    "change",
    [
        {"label_smoothing": 0.1},
        {"mixup": 0.2},
        {"cutmix": 1.0},
        {"clip_norm": 1e-3},
        {"precision": "bf16"},
        {"lr": 0.02},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_has_its_effect(change: dict[str, object]) -> None:
    losses = [
        run(net(), config, budget_of=half_of_the_macs)[0].history[-1].loss
        for config in (TrainingConfig(epochs=1), TrainingConfig(epochs=1, **change))  # type: ignore[arg-type]
    ]
    assert losses[0] != losses[1]


def test_mixing_is_seeded_by_pass_and_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    places, mix = [], Mixing.__call__

    def spied(mixing: Mixing, *batch: torch.Tensor, **place: int) -> object:
        places.append((place["epoch"], place["batch"]))
        return mix(mixing, *batch, **place)

    monkeypatch.setattr(Mixing, "__call__", spied)
    states = []
    for global_seed in (0, 1):
        np.random.seed(global_seed)
        model = net()
        run(model, TrainingConfig(epochs=2, mixup=0.4, cutmix=1.0), budget_of=half_of_the_macs)
        states.append(model.state_dict())
    assert places == 2 * [(epoch, batch) for epoch in (1, 2) for batch in range(8)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_mixing_goes_with_distillation_and_odd_batches() -> None:
    preprocessing = Preprocessing((1, 8, 8), mean=(0.305,), std=(0.376,))
    config = DataConfig(name="digits", batch_size=33, limit=99)
    data = build_data(config, preprocessing, seed=0)
    trained, *_ = run(
        net(),
        TrainingConfig(epochs=1, mixup=0.2, distill=0.5, label_smoothing=0.1),
        budget_of=half_of_the_macs,
        data=data,
    )
    assert trained.steps == 3
    assert math.isfinite(trained.history[-1].loss or math.nan)


def test_evaluation_leaves_the_mode_alone() -> None:
    model, data = net().train(), digits()
    before = model.bn1.running_mean.clone()
    first: Callable[[], float] = lambda: accuracy(model, data.val)  # noqa: E731
    assert first() == first()
    assert model.training
    assert torch.equal(model.bn1.running_mean, before)
