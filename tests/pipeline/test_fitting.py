from pathlib import Path

import pytest
import torch

from ramda_cli.config.schema import TargetConfig, TrainingConfig
from ramda_cli.errors import Interrupted, TrainingError
from ramda_cli.export import load
from ramda_cli.models.weights import read_weights
from ramda_cli.observer import SilentObserver
from ramda_cli.optimizers import penalties
from ramda_cli.pipeline.fitting import Fit
from ramda_cli.pipeline.workspace import Workspace
from ramda_cli.regularizers import GroupLasso
from ramda_cli.structure import identify
from ramda_cli.structure.cost import CostModel
from ramda_cli.surgery import remove
from ramda_cli.training import plan_budget
from tests.training.problems import CPU, digits, net, structure_of


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    model = net()
    structure = structure_of(model)
    cost = CostModel(structure)
    workspace = Workspace(tmp_path / "out")
    workspace.start()
    return Fit(
        model, structure, penalties(structure, GroupLasso(0.0)), digits(), TrainingConfig(epochs=3),
        cost=cost, budget=plan_budget(cost, TargetConfig(macs=0.5), floor=0.1), details={},
        device=CPU, workspace=workspace, observer=SilentObserver(),
    )  # fmt: skip


def cut(fit: Fit) -> tuple[torch.nn.Module, object]:
    model = fit._model
    structure = structure_of(model)
    return remove(model, structure, identify(model, structure))


def test_an_interruption_keeps_the_dense_weights(fit: Fit) -> None:
    fit.prune()
    with pytest.raises(Interrupted) as caught, fit.keeping_interrupted_weights():
        raise KeyboardInterrupt
    kept = fit._workspace.checkpoint("interrupted")
    assert caught.value.exit_code == 130
    assert f"--weights {kept}" in (caught.value.hint or "")
    net().load_state_dict(read_weights(kept))


def test_an_interruption_of_the_recovery_keeps_a_smaller_model(fit: Fit) -> None:
    fit.prune()
    assert fit.epochs_left == 2
    smaller, plan = cut(fit)
    fit.recover(smaller, plan)
    with pytest.raises(Interrupted) as caught, fit.keeping_interrupted_weights():
        raise KeyboardInterrupt
    kept = fit._workspace.checkpoint("interrupted")
    assert f"the smaller model so far is in {kept}" in (caught.value.hint or "")
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(load(kept)(images), smaller.eval()(images))
    last = load(fit._workspace.checkpoint("last"))
    assert torch.equal(last.state_dict()["fc.weight"], smaller.state_dict()["fc.weight"])


def test_a_failed_recovery_says_where_the_last_good_weights_are(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit.prune()
    smaller, plan = cut(fit)
    with torch.no_grad():
        smaller.fc.bias += torch.inf
    with pytest.raises(TrainingError, match="the loss became nan at step 10 of 24") as caught:
        fit.recover(smaller, plan)
    last = fit._workspace.checkpoint("last")
    assert f"the weights after epoch 1 are in {last}" in (caught.value.hint or "")
