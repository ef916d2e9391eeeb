"""A run that was interrupted goes on, and ends with the file of one that was not, byte for byte."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ramda_cli.config.schema import RunConfig
from ramda_cli.errors import ConfigError, Interrupted, OutputError
from ramda_cli.pipeline.fitting import Fit
from ramda_cli.pipeline.prune import prune
from ramda_cli.pipeline.workspace import DECIDED, STATE, Workspace
from tests.pipeline.recording import Recorder

FACTORY = """
import torch
from torch import nn

PREPROCESSING = {"input_size": (1, 8, 8), "mean": (0.3,), "std": (0.4,)}

class Net(nn.Module):
    def __init__(self, *, dropout, graph):
        super().__init__()
        self.graph = graph
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 16, 3, padding=1)
        self.drop = nn.Dropout(dropout)
        self.hidden = nn.Linear(16, 24)
        self.fc = nn.Linear(24, 10)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        if self.graph:  # the width in the code makes the smaller model a graph
            x = x.reshape(-1, 12, 8, 8)
        x = self.hidden(self.drop(self.conv2(x).relu().mean((2, 3)))).relu()
        return self.fc(x)

def build(dropout=0.0, graph=False):
    torch.manual_seed(0)
    return Net(dropout=dropout, graph=graph)

def plain():
    return build()

def with_dropout():
    return build(dropout=0.2)

def graph():
    return build(graph=True)

def graph_with_dropout():
    return build(dropout=0.2, graph=True)
"""
STEPS = 5
"""Of an epoch; there are three."""


def config_of(tmp_path: Path, factory: str = "plain", **sections: dict[str, Any]) -> RunConfig:
    path = tmp_path / "net.py"
    path.write_text(FACTORY)
    document: dict[str, Any] = {
        "model": {"name": f"{path}:{factory}"},
        "data": {"name": "digits", "batch_size": 64, "limit": 320, "workers": 0},
        "target": {"macs": 0.5},
        "training": {"epochs": 3, "device": "cpu"},
        "output": {"directory": str(tmp_path / "out"), "bench": False, "onnx": False},
    }
    for name, values in sections.items():
        document[name] = {**document.get(name, {}), **values}
    if "weight" in document["training"]:
        del document["target"]
    return RunConfig.model_validate(document)


def result_of(config: RunConfig) -> bytes:
    return (config.output.directory / "model.safetensors").read_bytes()


def stopped(config: RunConfig, step: int) -> Workspace:
    """Begin the run or go on with it, and ask it to stop after so many steps, as a signal does."""
    follow = Fit._after_step

    def asked(fit: Fit) -> None:
        fit._stop.asked = fit._training._passes.step == step
        follow(fit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fit, "_after_step", asked)
        with pytest.raises(Interrupted) as caught:
            prune(config, Recorder(), resume=True)
    assert caught.value.exit_code == 130
    assert f"ramda prune --resume -o {config.output.directory}" in (caught.value.hint or "")
    return Workspace(config.output.directory)


CASES: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "plain": ("plain", {}),
    "dropout": ("with_dropout", {"training": {"epochs": 3, "recover_epochs": 1}}),
    "graph": ("graph", {}),
    "zeros held": ("graph_with_dropout", {}),
    "weight": ("with_dropout", {"training": {
        "weight": 1e-3, "milestones": [1], "recover_epochs": 1, "lr": 1e-2}}),
    "settings": ("plain", {
        "data": {"random_erasing": 0.5, "batch_size": 32},
        "training": {"mixup": 0.2, "cutmix": 1.0, "distill": 0.5, "ema": 0.9, "clip_norm": 1.0,
                     "accumulate": 2, "warm_up": 1.0, "precision": "bf16"}}),
    "taylor": ("plain", {"training": {"method": "taylor"}}),
    "half": ("plain", {"training": {"precision": "fp16"}}),
    "ranks": ("plain", {"structure": {"low_rank": ["hidden"]},
                        "training": {"threshold_every": 2, "freeze": 0.5}}),
    "ranks by weight": ("graph_with_dropout", {
        "structure": {"low_rank": ["hidden"]},
        "training": {"weight": 1e-4, "rank_weight": 1e-3, "threshold_every": 3,
                     "recover_epochs": 1, "lr": 1e-2}}),
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [name if name == "plain" else pytest.param(name, marks=pytest.mark.slow) for name in CASES],
)
def test_a_run_ends_with_the_same_file_wherever_it_was_stopped(name: str, tmp_path: Path) -> None:
    factory, sections = CASES[name]
    config = config_of(tmp_path, factory, **sections)
    prune(config, Recorder())
    expected, out = result_of(config), config.output.directory
    metrics = (out / "metrics.jsonl").read_text()
    out.rename(tmp_path / "undisturbed")
    # Within an epoch, at its end, and after the removal; each go of the run is stopped once.
    for step in (3, STEPS, 2 * STEPS + 2):
        stopped(config, step)
    recorder = Recorder()
    prune(config, recorder, resume=True)
    assert f"goes on from step {2 * STEPS + 2}, 2 epochs done" in recorder.notes
    assert (out / "metrics.jsonl").read_text() == metrics
    assert result_of(config) == expected


def test_other_settings_are_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    workspace = stopped(config, 2)
    assert workspace.unfinished
    other = config.model_copy(update={"training": config.training.model_copy(update={"lr": 0.5})})
    with pytest.raises(ConfigError, match=r"has training\.lr nothing, and 0\.5 is asked for$"):
        prune(other, Recorder(), resume=True)
    more = config.model_copy(update={"data": config.data.model_copy(update={"workers": 1})})
    prune(more, Recorder(), resume=True)  # which does not change what is computed
    assert not workspace.unfinished
    for name in (STATE, DECIDED):
        assert not workspace.checkpoint(name).exists()


def test_other_data_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    for split, label, number in product(("train", "val"), ("a", "b"), range(70)):
        place = folder / split / label
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(place / f"{number}.png")
    config = config_of(tmp_path, data={"name": str(folder), "limit": None})
    stopped(config, 2)
    (folder / "train/a/0.png").unlink()
    with pytest.raises(OutputError, match=r"began with other data: files or splits have changed$"):
        prune(config, Recorder(), resume=True)


def test_a_finished_run_is_told_again_and_one_of_other_settings_is_not_touched(
    tmp_path: Path,
) -> None:
    config = config_of(tmp_path, training={"epochs": 1})
    document, before = prune(config, Recorder(), resume=True), result_of(config)
    recorder = Recorder()
    again = prune(config, recorder, resume=True)
    assert again == json.loads(json.dumps(document))
    assert recorder.notes == [f"{config.output.directory} holds the finished run already"]
    other = config_of(tmp_path, training={"epochs": 2})
    with pytest.raises(ConfigError, match=r"has training\.epochs 1, and 2 is asked for"):
        prune(other, Recorder(), resume=True)
    assert result_of(config) == before


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    config.output.directory.mkdir()
    (config.output.directory / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds files, and no earlier run"):
        prune(config, Recorder(), resume=True)


def test_what_was_half_written_is_taken_away(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    workspace = stopped(config, 2)
    workspace.path("checkpoints/state.safetensors.partial").write_bytes(b"half")
    (workspace.directory / "tmp.partial").mkdir()
    workspace.path("report.html").write_text("of a try that was killed after it")
    prune(config, Recorder(), resume=True)
    assert not list(workspace.directory.rglob("*.partial"))
    assert {path.name for path in workspace.directory.iterdir()} == {
        "README.md", "checkpoints", "config.yaml", "metrics.jsonl", "model.safetensors",
        "report.html", "report.json", "run.log",
    }  # fmt: skip
    assert {path.name for path in (workspace.directory / "checkpoints").iterdir()} == {
        "last.safetensors", "best.safetensors",
    }  # fmt: skip
