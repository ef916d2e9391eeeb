"""`prune` on speech: a small Tacotron 2 is trained on tones, made smaller, proven and written."""

from pathlib import Path
from typing import Any

import pytest

from ramda_cli.config.schema import DataConfig, RunConfig
from ramda_cli.errors import ConfigError
from ramda_cli.export import load
from ramda_cli.models.tacotron2 import Tacotron2
from ramda_cli.pipeline.evaluate import evaluate
from ramda_cli.pipeline.prune import prune
from tests.data.speech.recordings import write_recordings
from tests.models.test_tacotron2 import SIZES
from tests.pipeline.recording import Recorder

pytest.importorskip("librosa")


def run_of(tmp_path: Path, **output: object) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"name": "tacotron2", "arguments": SIZES},
            "data": {
                "name": str(tmp_path / "tones"),
                "batch_size": 2,
                "eval_batch_size": 2,
                "val_split": "metadata.csv",
            },
            "training": {"epochs": 3, "device": "cpu", "lr": 1e-2},
            "target": {"channels": 0.6},
            "output": {"directory": str(tmp_path / "out"), "bench": False, **output},
        }
    )


def test_speech_is_trained_on_made_smaller_and_proven(tmp_path: Path) -> None:
    write_recordings(tmp_path / "tones")
    report: Any = prune(run_of(tmp_path, onnx=False), Recorder())
    assert report["layout"].startswith("native")
    assert "6 training and 6 validation utterances" in report["data"]["description"]
    assert all(check["passed"] for check in report["proof"]["checks"])
    accuracy = report["accuracy"]
    assert accuracy["before_removal"] == pytest.approx(accuracy["after_removal"], rel=1e-5)
    path = tmp_path / "out" / "model.safetensors"
    assert type(load(path)) is Tacotron2
    data = {"name": str(tmp_path / "tones"), "val_split": "metadata.csv"}
    measured = evaluate(path, DataConfig(**data), device="cpu")
    assert measured["value"] == pytest.approx(accuracy["reloaded"], rel=1e-6)
    others = evaluate(path, DataConfig(**data, eval_batch_size=6), device="cpu")
    assert others["value"] != pytest.approx(accuracy["reloaded"], rel=1e-6), "padding is read"
    assert measured["unit"] == "utterances"
    assert "model.generate" in (tmp_path / "out" / "README.md").read_text()


def test_onnx_of_speech_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    write_recordings(tmp_path / "tones")
    with pytest.raises(ConfigError, match="ONNX takes speech of one length only"):
        prune(run_of(tmp_path, onnx=True), Recorder())
    assert not (tmp_path / "out" / "model.safetensors").exists()
