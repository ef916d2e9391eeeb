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
    runs = {run.label: run for run in load_comparison(path, {}, (), seeds=[0]).chosen}
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


# Epochs or steps, milestones, batch; then (weight, lr, c0) of each method, from the paper's table.
EIGHT = 1000, (200, 400, 600, 800), 128
NUMBERS: dict[str, tuple[tuple[int, tuple[int, ...], int], dict[str, tuple[float, ...]]]] = {
    "logistic-mnist": ((500, (100, 200, 300, 400), 128), {
        "RAMDA": (1e-3, 1e-2, 1e-2), "RMDA": (1e-3, 1e-1, 1e-1), "ProxSGD": (1e-3, 1e-1),
        "ProxGen": (1e-3, 1e-3), "ProxSSI": (1e-3, 1e-3),
    }),
    "vgg19-cifar10": (EIGHT, {
        "RAMDA": (8e-7, 1e-2, 1e-2), "RMDA": (1.5e-4, 1e-1, 1e-1), "ProxSGD": (3e-5, 1e-1),
        "ProxGen": (1e-6, 1e-3), "ProxSSI": (1e-6, 1e-3),
    }),
    "vgg19-cifar100": (EIGHT, {
        "RAMDA": (2e-7, 1e-2, 1e-2), "RMDA": (1e-4, 1e-1, 1e-1), "ProxSGD": (4e-5, 1e-1),
        "ProxGen": (1e-6, 1e-3), "ProxSSI": (1e-6, 1e-3),
    }),
    "resnet50-cifar10": (EIGHT, {
        "RAMDA": (1e-6, 1e-2, 1e-2), "RMDA": (5e-5, 1e-1, 1e-1), "ProxSGD": (5e-5, 1e-1),
        "ProxGen": (5e-7, 1e-3), "ProxSSI": (5e-7, 1e-3),
    }),
    "resnet50-cifar100": (EIGHT, {
        "RAMDA": (5e-7, 1e-2, 1e-2), "RMDA": (2e-4, 1e-1, 1e-1), "ProxSGD": (4e-5, 1e-1),
        "ProxGen": (1e-6, 1e-3), "ProxSSI": (1e-6, 1e-3),
    }),
    "resnet50-imagenet": ((160, (40, 80, 120), 256), {
        "RAMDA": (4e-7, 1e-2, 1e-2), "RMDA": (1.35e-5, 1.0, 1e-1), "ProxSGD": (1.25e-5, 1e-1),
        "ProxGen": (1.3e-7, 1e-3),
    }),
    "tacotron2-ljspeech": ((1000, (), 0), {
        "RAMDA": (6e-7, 2.5e-3), "RMDA": (1e-6, 2.5), "ProxSGD": (2.5e-6, 1.0),
        "ProxGen": (8e-7, 1e-3),
    }),
    "transformer-xl-wikitext103": ((0, (), 64), {
        "RAMDA": (1.25e-7, 5e-3), "RMDA": (1.65e-7, 25.0), "ProxSGD": (2.5e-7, 10.0),
        "ProxGen": (1.75e-7, 2.5e-4),
    }),
    "mlp-fashion-mnist": ((300, (100, 200), 128), {
        "RAMDA": (1e-3, 1e-2, 1e-1), "RMDA": (5e-3, 1e-1, 1e-1), "ProxSGD": (5e-3, 1e-1),
        "ProxGen": (3.5e-3, 1e-3),
    }),
    "simmim-cifar10": ((300, (100, 200), 128), {
        "RAMDA": (1e-5, 1e-2, 1e-1), "RMDA": (1e-5, 10.0), "ProxSGD": (2.5e-5, 10.0),
        "ProxGen": (1e-4, 1e-3),
    }),
    "subproblem-vgg19-cifar10": ((1000, (250, 500, 750), 128), {
        label: (1e-6, 1e-2 if label.startswith("RAMDA") else 1e-3) for label in SOLVERS
    }),
    "subproblem-resnet50-cifar100": ((1000, (250, 500, 750), 128), {
        label: (1e-6, 1e-2 if label.startswith("RAMDA") else 1e-3) for label in SOLVERS
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_those_of_the_paper(name: str) -> None:
    (epochs, milestones, batch), methods = NUMBERS[name]
    comparison = load_comparison(ROOT / "configs" / "paper" / f"{name}.yaml", {}, ())
    assert {run.seed for run in comparison.runs} == {0, 1, 2}
    for run in comparison.runs:
        data, training = run.config.data, run.config.training
        assert not epochs or (training.epochs, training.milestones) == (epochs, milestones)
        assert not batch or data.batch_size == batch
        if run.label == "dense":
            continue
        weight, lr, *c0 = methods[run.label]
        assert (training.weight, training.lr) == (weight, lr), run.label
        assert not c0 or training.momentum == c0[0], run.label
