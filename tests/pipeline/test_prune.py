"""The course of `prune` where it branches: which model the last epochs train."""

from pathlib import Path

import pytest

from ramda_cli.config.schema import ModelConfig, RunConfig
from ramda_cli.errors import ConfigError, OutputError
from ramda_cli.pipeline.prune import prune
from tests.pipeline.recording import Recorder

FACTORY = """
import torch
from torch import nn

PREPROCESSING = {{"input_size": (1, 8, 8), "mean": (0.3,), "std": (0.4,)}}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 16, 3, padding=1)
        self.drop = nn.Dropout({dropout})
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        # The width in the code makes the smaller model a graph.
        x = self.bn1(self.conv1(x)).relu().reshape(-1, 12, 8, 8)
        return self.fc(self.drop(self.conv2(x).relu().mean((2, 3))))

def net():
    torch.manual_seed(0)
    return Net()
"""


def run_of(tmp_path: Path, *, dropout: float, **training: object) -> RunConfig:
    path = tmp_path / "net.py"
    path.write_text(FACTORY.format(dropout=dropout))
    return RunConfig.model_validate(
        {
            "model": {"name": f"{path}:net"},
            "data": {"name": "digits", "batch_size": 64, "limit": 256, "workers": 0},
            "target": {"macs": 0.5},
            "training": {"epochs": 3, "device": "cpu", **training},
            "output": {"directory": str(tmp_path / "out"), "bench": False, "onnx": False},
        }
    )


def test_a_graph_without_dropout_is_trained_further(tmp_path: Path) -> None:
    recorder = Recorder()
    report = prune(run_of(tmp_path, dropout=0.0), recorder)
    assert report["training"]["removal_epoch"] == 1
    assert report["layout"].startswith("graph")
    accuracy, history = report["accuracy"], report["training"]["history"]
    assert accuracy["before_removal"] == accuracy["after_removal"] == history[1]["metric"]
    assert accuracy["recovered"] == accuracy["reloaded"] == history[3]["metric"]
    assert "recover" in recorder.stages
    assert not any("no dropout" in note for note in recorder.notes)


def test_where_dropout_would_be_lost_the_zeros_stay_until_the_end(tmp_path: Path) -> None:
    recorder = Recorder()
    report = prune(run_of(tmp_path, dropout=0.2), recorder)
    accuracy, history = report["accuracy"], report["training"]["history"]
    assert accuracy["recovered"] is None
    assert accuracy["before_removal"] == accuracy["after_removal"] == history[3]["metric"]
    assert report["training"]["removal_epoch"] is None
    assert "recover" not in recorder.stages
    assert any("which has no dropout" in note for note in recorder.notes)


def test_nothing_is_written_before_the_settings_are_known_to_work(tmp_path: Path) -> None:
    config = run_of(tmp_path, dropout=0.0, ema=0.9, recover_epochs=0)
    with pytest.raises(ConfigError, match="no epoch follows it"):
        prune(config, Recorder())
    assert not (tmp_path / "out").exists()


def test_that_onnx_has_no_such_operator_is_told_before_training(tmp_path: Path) -> None:
    config = run_of(tmp_path, dropout=0.0)
    path = tmp_path / "net.py"
    source = path.read_text().replace("return self.fc(", "return torch.lgamma(self.fc(")
    path.write_text(source.replace(".mean((2, 3))))", ".mean((2, 3)))))"))
    recorder = Recorder()
    onnx = config.output.model_copy(update={"onnx": True})
    with pytest.raises(OutputError, match=r"cannot be written as ONNX: .*lgamma") as caught:
        prune(config.model_copy(update={"output": onnx}), recorder)
    assert "--no-onnx" in caught.value.hint
    assert "train" not in recorder.stages
    assert not (tmp_path / "out").exists()
    assert prune(config, recorder)["files"]


@pytest.mark.parametrize(
    ("settings", "teaches"),
    [
        ({}, True),
        ({"distill": 0.0}, False),
        ({"distill": 0.4}, False),
        ({"pretrained": False}, False),
    ],
)
def test_the_dense_model_teaches_where_it_can(
    tmp_path: Path, settings: dict[str, object], teaches: bool
) -> None:
    model = {"name": "digits-resnet", "pretrained": settings.pop("pretrained", True)}
    config = run_of(tmp_path, dropout=0.0, **{"epochs": 1, **settings}).model_copy(
        update={"model": ModelConfig.model_validate(model)}
    )
    recorder = Recorder()
    report = prune(config, recorder)
    noted = [note for note in recorder.notes if "outputs weigh 0.9 in the loss" in note]
    assert bool(noted) == teaches
    assert all(note in report["notes"] for note in noted)
    assert report["reproducibility"]["config"]["training"]["distill"] == settings.get("distill")
