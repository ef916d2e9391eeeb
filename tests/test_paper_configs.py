"""The paper's experiments: each builds its model and takes a step by every method."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ramda_cli.config.comparison import ComparedRun, load_comparison
from ramda_cli.models.loaded import LoadedModel
from ramda_cli.models.loading import load_model
from ramda_cli.optimizers import penalties
from ramda_cli.pipeline.ranks import choose_matrices, hold_channels
from ramda_cli.structure import input_channel_structure
from ramda_cli.tasks import IMAGE_CLASSIFICATION, call
from ramda_cli.tasks.inputs import ExampleInputs
from ramda_cli.training.methods import build_method
from ramda_cli.training.regularizer import build_regularizer

ROOT = Path(__file__).resolve().parents[1]
PAPER = sorted((ROOT / "configs" / "paper").glob("*.yaml"))


def loaded_of(run: ComparedRun) -> LoadedModel:
    return load_model(run.config.model, image_size=run.config.data.image_size, seed=0)


def batch_of(loaded: LoadedModel) -> tuple[ExampleInputs, Tensor]:
    """Return inputs and targets of two examples, images as small as they may be."""
    if loaded.task is not IMAGE_CLASSIFICATION:
        return loaded.example_inputs, loaded.example_inputs["pixel_values"]
    size = min(64, loaded.preprocessing.input_size[-1])
    images = torch.randn(2, *loaded.preprocessing.input_size[:1], size, size)
    return images, torch.tensor([0, 1])


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_every_method_takes_a_step(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    runs = {run.label: run for run in load_comparison(path, {}, (), seeds=[0]).runs}
    assert {"RAMDA", "RMDA", "ProxSGD", "ProxGen", "dense"} <= runs.keys()
    loaded = loaded_of(runs["RAMDA"])
    model = loaded.module.train()
    inputs, targets = batch_of(loaded)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    loaded.task.loss(call(loaded.task, model, inputs), targets).backward()
    for label, run in runs.items():
        settings, training = run.config.structure, run.config.training
        assert training.weight is not None
        assert (label == "dense") == (training.weight == 0)
        matrices = choose_matrices(model, settings.low_rank, keep=settings.keep)
        alone = hold_channels(input_channel_structure(model), matrices)
        channels = penalties(alone, build_regularizer(training))
        assert channels or matrices
        method = build_method(
            model, channels if settings.penalize == "paper" else [], training,
            budget=None, steps=10, matrices=matrices,
        )  # fmt: skip
        method.optimizer.step()
        moved = [n for n, p in model.named_parameters() if not torch.equal(p, start[n])]
        assert moved, label
        assert all(bool(torch.isfinite(p).all()) for p in model.parameters()), label
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(start[name])
