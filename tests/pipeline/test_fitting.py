from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from ramda_cli.config.schema import (
    DataConfig,
    ModelConfig,
    RunConfig,
    TargetConfig,
    TrainingConfig,
)
from ramda_cli.errors import DataError, TrainingError
from ramda_cli.export import load, read_state
from ramda_cli.models.weights import read_weights
from ramda_cli.observer import SilentObserver
from ramda_cli.optimizers import penalties
from ramda_cli.pipeline.fitting import Fit
from ramda_cli.pipeline.resuming import new_run
from ramda_cli.pipeline.stopping import StopRequest
from ramda_cli.pipeline.workspace import Workspace
from ramda_cli.regularizers import GroupLasso
from ramda_cli.structure import identify
from ramda_cli.structure.cost import CostModel
from ramda_cli.surgery import remove
from ramda_cli.training import plan_budget
from tests.training.problems import CPU, accuracy, digits, net, structure_of

RUN = RunConfig(
    model=ModelConfig(name="net"), data=DataConfig(name="digits"), target=TargetConfig(macs=0.5)
)


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
        run=new_run(RUN), checkpoint_seconds=600.0, stop=StopRequest(SilentObserver()),
    )  # fmt: skip


def cut(fit: Fit) -> tuple[torch.nn.Module, object]:
    model = fit._model
    structure = structure_of(model)
    return remove(model, structure, identify(model, structure))


def test_the_weights_after_an_epoch_are_kept(fit: Fit) -> None:
    fit.prune()
    net().load_state_dict(read_weights(fit._workspace.checkpoint("last")))
    assert not fit._workspace.checkpoint("best").exists()
    assert fit.epochs_left == 2
    smaller, plan = cut(fit)
    fit.recover(smaller, plan)
    images = torch.randn(2, 1, 8, 8)
    last = load(fit._workspace.checkpoint("last"))
    torch.testing.assert_close(last(images), smaller.eval()(images))
    best = load(fit._workspace.checkpoint("best"))
    metrics = [epoch.metric for epoch in fit.result().history[2:]]
    assert accuracy(best, digits().val) == max(metrics)


def test_bad_data_loses_no_step(fit: Fit) -> None:
    def broken() -> Iterator[object]:
        yield from islice(iter(digits().train), 3)
        raise DataError("image 7 cannot be read", hint="take it away")

    train = fit._training._passes._data.train
    train.__class__ = type("Broken", (train.__class__,), {"__iter__": lambda _: broken()})
    with pytest.raises(DataError, match="image 7 cannot be read") as caught:
        fit.prune()
    directory = fit._workspace.directory
    assert caught.value.hint == (
        f"take it away; then `ramda prune --resume -o {directory}` goes on from the last checkpoint"
    )
    assert read_state(fit._workspace.checkpoint("state"), "training")["passes"]["step"] == 3


def test_a_loader_process_that_dies_in_the_middle_of_a_step(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's handler of SIGCHLD raises wherever the main thread is."""

    def handled() -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    monkeypatch.setattr(fit._training, "_after_step", handled)
    with pytest.raises(DataError, match=r"^a loader process died: DataLoader worker") as caught:
        fit.prune()
    assert "--resume" in (caught.value.hint or "")
    # Of the start, and not of a step that may be half done.
    state = read_state(fit._workspace.checkpoint("state"), "training")
    assert state["passes"]["step"] == 0


def test_a_failed_recovery_says_where_the_last_good_weights_are(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit.prune()
    smaller, plan = cut(fit)
    with torch.no_grad():
        smaller.fc.bias += torch.inf
    with pytest.raises(
        TrainingError, match="the weights became infinite or NaN at step 16 of 24"
    ) as caught:
        fit.recover(smaller, plan)
    last = fit._workspace.checkpoint("last")
    assert f"the weights of the last epoch are in {last}" in (caught.value.hint or "")
