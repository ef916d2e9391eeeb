"""One model to several targets, with the real pipeline on the digits."""

import json
from pathlib import Path
from typing import Any

import pytest

from ramda_cli.config.loading import load_config
from ramda_cli.config.schema import RunConfig
from ramda_cli.errors import Interrupted, TargetError
from ramda_cli.observer import SilentObserver
from ramda_cli.pipeline import SweepSettings, sweep

SETTINGS = SweepSettings("macs", (0.5, 0.3), ("ramda", "magnitude"), (0,))


class Listener(SilentObserver):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def config(root: Path) -> RunConfig:
    return load_config(
        None,
        {
            "model.name": "digits-resnet",
            "data.name": "digits",
            "data.limit": 128,
            "data.batch_size": 64,
            "training.epochs": 1,
            "training.device": "cpu",
            "target": "macs=0.5",
            "output.directory": root,
            "output.onnx": False,
            "output.bench": False,
        },
        (),
    )


def test_a_sweep_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first: Any = sweep(config(tmp_path), SETTINGS, SilentObserver())
    directories = [point["directory"] for point in first["points"]]
    assert directories == [
        "macs-0.5-ramda-0", "macs-0.5-magnitude-0", "macs-0.3-ramda-0", "macs-0.3-magnitude-0",
    ]  # fmt: skip
    for point in first["points"]:
        assert point["macs_share"] <= point["asked"]["macs"]
        assert point["met"]
        assert point["unchanged"]
    assert json.loads((tmp_path / "sweep.json").read_text()) == first
    assert "macs=0.3" in (tmp_path / "sweep.html").read_text()
    # A run of other settings is made again, and one that did not finish.
    (tmp_path / directories[0] / "INCOMPLETE").write_text("")
    listener = Listener()
    again = sweep(config(tmp_path), SETTINGS, listener)
    assert again == first
    notes = [note for note in listener.notes if "macs-" in note]
    assert notes == [
        "run 1 of 4: macs-0.5-ramda-0",
        *(f"{name} is there already" for name in directories[1:]),
    ]


def test_what_is_finished_stays_when_a_target_cannot_be_reached(tmp_path: Path) -> None:
    settings = SweepSettings("macs", (0.5, 1e-6), ("magnitude",), (0,))
    with pytest.raises(TargetError, match="cannot be reached"):
        sweep(config(tmp_path), settings, SilentObserver())
    assert len(json.loads((tmp_path / "sweep.json").read_text())["points"]) == 1


def test_an_interrupted_sweep_says_that_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object, **settings: object) -> None:
        del args, settings
        raise Interrupted("interrupted; it is marked", hint="`ramda prune --resume` goes on")

    monkeypatch.setattr("ramda_cli.pipeline.one_of_several.prune", stop)
    with pytest.raises(Interrupted, match="it is marked") as caught:
        sweep(config(tmp_path), SETTINGS, SilentObserver())
    assert "the same command goes on" in str(caught.value.hint)
