"""Methods side by side, with the real pipeline."""

import json
from pathlib import Path

import pytest

from ramda_cli.config.comparison import load_comparison
from ramda_cli.errors import ConfigError
from ramda_cli.observer import SilentObserver
from ramda_cli.pipeline import compare
from tests.pipeline.recording import Recorder

FACTORY = """
from torch import nn

PREPROCESSING = {"input_size": (1, 8, 8), "mean": (0.3,), "std": (0.4,)}


def logistic():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


def written(folder: Path) -> Path:
    (folder / "model.py").write_text(FACTORY)
    path = folder / "logistic.yaml"
    path.write_text(f"""
model: {{name: '{folder}/model.py:logistic'}}
data: {{name: digits, limit: 128, batch_size: 32, augment: none}}
structure: {{penalize: paper}}
training: {{epochs: 4, milestones: [2], device: cpu}}
output: {{onnx: false, bench: false}}
methods:
  RAMDA: {{method: ramda, lr: 1e-2, weight: 5e-2}}
  SGD, dense: {{method: proxsgd, lr: 1e-1, weight: 0.0}}
seeds: [0]
""")
    return path


def test_methods_are_run_measured_and_shown(tmp_path: Path) -> None:
    comparison = load_comparison(written(tmp_path), {}, ())
    (document,) = compare([comparison], tmp_path / "out", SilentObserver())
    ramda, dense = document["runs"]
    assert (ramda["label"], ramda["directory"]) == ("RAMDA", "ramda-0")
    assert (dense["label"], dense["directory"]) == ("SGD, dense", "sgd--dense-0")
    # Pixels that no digit touches, and others; none of them can be taken out.
    assert 0 < ramda["structure"] < 1
    assert dense["structure"] == 0
    assert ramda["removed"] == dense["removed"] == 0
    assert ramda["unchanged"]
    assert ramda["seconds_per_epoch"] > 0
    assert [entry["epoch"] for entry in ramda["history"]] == [0, 1, 2, 3, 4]
    place = tmp_path / "out" / "logistic"
    assert json.loads((place / "comparison.json").read_text()) == document
    assert "SGD, dense" in (place / "comparison.md").read_text()
    assert "<svg" in (place / "comparison.html").read_text()
    again = Recorder()
    assert compare([comparison], tmp_path / "out", again) == [document]
    assert again.notes == ["ramda-0 is there already", "sgd--dense-0 is there already"]


def test_finished_runs_stay_in_the_table_and_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = written(tmp_path), tmp_path / "out"
    short = {"training.epochs": 1, "training.milestones": []}
    compare([load_comparison(path, short, ())], out, SilentObserver())
    # The same directory by another name.
    monkeypatch.chdir(tmp_path)
    (document,) = compare(
        [load_comparison(path, short, (), labels=["RAMDA"])], Path("out"), again := Recorder()
    )
    assert again.notes == ["ramda-0 is there already"]
    assert [run["label"] for run in document["runs"]] == ["RAMDA", "SGD, dense"]
    before = (out / "logistic" / "ramda-0" / "report.json").read_bytes()
    longer = {**short, "training.epochs": 2}
    with pytest.raises(ConfigError, match=r"ramda-0 has training\.epochs 1, and 2 is") as caught:
        compare([load_comparison(path, longer, ())], out, SilentObserver())
    assert caught.value.hint == "choose another -o, or replace it with --overwrite"
    assert (out / "logistic" / "ramda-0" / "report.json").read_bytes() == before
    # Neither are files that were not asked for before, nor another batch of the measurement.
    for setting, value in (("output.onnx", True), ("data.eval_batch_size", 7)):
        others = {**short, setting: value}
        with pytest.raises(ConfigError, match=rf"has {setting} .*, and {value} is asked for"):
            compare([load_comparison(path, others, ())], out, SilentObserver())
    more_workers = load_comparison(path, {**short, "data.workers": 1}, ())
    compare([more_workers], out, again := Recorder())
    assert again.notes == ["ramda-0 is there already", "sgd--dense-0 is there already"]
    replacing = load_comparison(path, {**longer, "output.overwrite": True}, (), labels=["RAMDA"])
    (document,) = compare([replacing], out, SilentObserver())
    # What is not of these settings is not shown beside it.
    assert [(run["label"], len(run["history"])) for run in document["runs"]] == [("RAMDA", 3)]
