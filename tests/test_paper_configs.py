"""The paper's experiments: each builds its model and takes a step by every method."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ramda_cli.config.comparison import ComparedRun, load_comparison
from ramda_cli.models.loaded import LoadedModel
from ramda_cli.models.loading import load_model
from ramda_cli.optimizers import penalties
from ramda_cli.pipeline.ranks import choose_matrices, hold_channels
from ramda_cli.structure import input_channel_structure
from ramda_cli.tasks import (
    LANGUAGE_MODELING,
    MASKED_IMAGE_MODELING,
    TEXT_TO_SPEECH,
    call,
)
from ramda_cli.tasks.inputs import ExampleInputs
from ramda_cli.training.methods import build_method
from ramda_cli.training.regularizer import build_regularizer

ROOT = Path(__file__).resolve().parents[1]
PAPER = sorted((ROOT / "configs" / "paper").rglob("*.yaml"))


# Too large for a test: fewer words and layers.
SMALLER: dict[str, dict[str, Any]] = {
    "transformer-xl": {"vocab_size": 2000, "cutoffs": [500, 1000], "n_layer": 2},
    "tacotron2": {"hidden": 256},
}
METHODS = {"RAMDA", "RMDA", "ProxSGD", "ProxGen", "dense"}
SOLVERS = {f"{method} {how}" for method in ("RAMDA", "ProxGen")
           for how in ("exact", "PG", "PG unstopped")}  # fmt: skip


def loaded_of(path: Path, run: ComparedRun) -> LoadedModel:
    model = run.config.model
    if path.stem.startswith("subproblem"):  # whose models are those of other files
        model = model.model_copy(update={"name": "configs/paper/cifar.py:vgg11_narrow"})
    if model.name in SMALLER:
        arguments = {**model.arguments, **SMALLER[model.name]}
        model = model.model_copy(update={"arguments": arguments})
    return load_model(model, image_size=run.config.data.image_size, seed=0)


def batch_of(loaded: LoadedModel) -> tuple[ExampleInputs, Tensor]:
    """Return two examples, images no larger than they need be, and what the task aims at."""
    example: Any = loaded.example_inputs
    if loaded.task is LANGUAGE_MODELING:
        return {**example, "targets": example["tokens"]}, example["tokens"]
    if loaded.task is MASKED_IMAGE_MODELING:
        return example, example["pixel_values"]
    if loaded.task is TEXT_TO_SPEECH:
        text, mels = example
        return (text, mels), torch.cat([mels, torch.zeros(*mels.shape[:2], 1)], dim=2)
    channels, _, side = loaded.preprocessing.input_size
    return torch.randn(2, channels, min(64, side), min(64, side)), torch.tensor([0, 1])


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_every_method_takes_a_step(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    runs = {run.label: run for run in load_comparison(path, {}, (), seeds=[0]).runs}
    assert (SOLVERS if path.stem.startswith("subproblem") else METHODS) <= runs.keys()
    loaded = loaded_of(path, next(iter(runs.values())))
    model = loaded.module.train()
    inputs, targets = batch_of(loaded)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    loaded.task.loss(call(loaded.task, model, inputs), targets).backward()
    for label, run in runs.items():
        settings, training = run.config.structure, run.config.training
        assert training.weight is not None
        assert (label == "dense") == (training.weight == 0)
        matrices = choose_matrices(model, settings.low_rank, keep=settings.keep)
        own = input_channel_structure(model, keep=settings.keep)
        alone = hold_channels(own, matrices)
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
