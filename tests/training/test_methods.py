"""The methods that RAMDA is compared with, through the same loop and the same budget."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ramda_cli.config.loading import load_config
from ramda_cli.config.schema import TargetConfig, TrainingConfig
from ramda_cli.errors import ConfigError
from ramda_cli.optimizers import penalties
from ramda_cli.regularizers import GroupLasso
from ramda_cli.structure import discover, identify
from ramda_cli.structure.cost import CostModel
from ramda_cli.training import plan_budget
from ramda_cli.training.methods import LABELS, StageSettings, build_method, least_magnitude
from tests.training.problems import net, run
from tests.training.test_loop import half_of_the_macs


@pytest.mark.parametrize("method", ["taylor", "magnitude"])
def test_a_baseline_ends_on_the_budget_with_exact_zeros(method: str) -> None:
    model = net()
    config = TrainingConfig.model_validate({"epochs": 4, "lr": 1e-2, "method": method})
    trained, structure, _ = run(model, config, budget_of=half_of_the_macs)
    cost = CostModel(structure)
    (limit,) = half_of_the_macs(cost).limits
    left = cost.macs(cost.kept(identify(model, structure).removable))
    assert 0.85 * limit.count <= left <= limit.count
    assert trained.method == LABELS[method]
    assert trained.zero_set_stability == 1.0
    assert trained.history[-1].metric > trained.history[0].metric


def test_the_least_weights_go_at_once_and_stay() -> None:
    model = net()
    structure = discover(model, torch.zeros(2, 1, 8, 8))
    groups = penalties(structure, GroupLasso(0.0))
    budget = plan_budget(CostModel(structure), TargetConfig(channels=0.5), floor=0.1)
    weight = model.conv2.weight.detach()
    with torch.no_grad():
        weight[:, :5] *= 1e-3  # conv1's first channels, as conv2 reads them
    zero = least_magnitude(model, groups, budget)
    number = [penalty.group.name for penalty in groups].index("conv1")
    mine = np.flatnonzero(budget.group_of_channel == number)
    assert zero[mine[:5]].all()


def test_adamw_decays_along_a_cosine_and_ramda_linearly() -> None:
    model = net()
    structure = discover(model, torch.zeros(2, 1, 8, 8))
    groups = penalties(structure, GroupLasso(0.0))
    budget = plan_budget(CostModel(structure), TargetConfig(macs=0.5), floor=0.1)
    found = {
        name: build_method(
            model, groups, TrainingConfig.model_validate({"method": name}), budget=budget, steps=100
        )
        for name in LABELS
    }
    assert found["ramda"].lr(1.0, 50, 100) == 0.5
    assert found["taylor"].lr(1.0, 25, 100) == pytest.approx((1 + 0.5**0.5) / 2)
    assert found["magnitude"].lr(2.0, 100, 100) == pytest.approx(0.0)
    assert found["magnitude"].freeze_step == 1


def test_a_baseline_has_no_regularization_weight(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: {name: m}\ndata: {name: d}\ntraining: {weight: 1e-3, method: taylor}\n")
    message = "training.method taylor has no regularization weight"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_config(path, {}, ())


@pytest.mark.parametrize(
    ("method", "lr", "weight"),
    [("rmda", 3.0, 1e-2), ("proxsgd", 1e-1, 1e-2), ("proxgen", 1e-2, 1.5e-2),
     pytest.param("proxssi", 1e-2, 1.5e-2, marks=pytest.mark.slow)],
)  # fmt: skip
def test_a_method_of_the_paper_ends_with_exact_zeros(method: str, lr: float, weight: float) -> None:
    config = TrainingConfig.model_validate(
        {"epochs": 6, "milestones": [4], "lr": lr, "weight": weight, "method": method}
    )
    model = net()
    trained, structure, _ = run(model, config)
    assert trained.method == LABELS[method]
    sparsity = trained.history[-1].group_sparsity
    assert sparsity is not None
    assert 0.02 < sparsity < 1
    assert trained.history[-1].metric > 0.3
    zero = sum(len(each) for each in identify(model, structure).removable.values())
    assert zero > 0
    assert trained.history[-1].lr == pytest.approx(0.1 * lr)


def test_stages_set_only_what_a_method_has() -> None:
    model = net()
    for method, before in (("proxsgd", {"momentum": 0.9}), ("proxgen", {"eps": 1e-8})):
        config = TrainingConfig.model_validate({"method": method, "weight": 1e-3, "lr": 0.5})
        built = build_method(model, [], config, budget=None, steps=10)
        built.set_stage(StageSettings(lr=0.05, eps=1e-7, momentum=1.0))
        (settings,) = built.optimizer.param_groups
        assert settings["lr"] == 0.05
        assert before.items() <= settings.items()


@pytest.mark.parametrize(
    ("training", "rest", "message"),
    [("weight: 1e-3, method: magnitude", "", "magnitude has no regularization weight"),
     ("method: rmda", "target: {macs: 0.5}", "rmda minimises a regularizer"),
     ("weight: 1e-3, weight_decay: 0.1", "", "weight_decay plays no part in ramda")],
)  # fmt: skip
def test_methods_that_do_not_fit(tmp_path: Path, training: str, rest: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"model: {{name: m}}\ndata: {{name: d}}\ntraining: {{{training}}}\n{rest}\n")
    with pytest.raises(ConfigError, match=message):
        load_config(path, {}, ())
