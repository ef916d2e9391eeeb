"""Whole runs of several processes, each on its part of every batch."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ramda_cli.config.schema import RunConfig
from ramda_cli.errors import ConfigError, RamdaError, TrainingError
from ramda_cli.pipeline.fitting import Fit
from ramda_cli.pipeline.prune import prune
from ramda_cli.training.processes import join
from tests.pipeline.recording import Recorder
from tests.together.forked import results, started, together

FACTORY = """
import torch
from torch import nn

PREPROCESSING = {"input_size": (1, 8, 8), "mean": (0.3,), "std": (0.4,)}

class Net(nn.Module):
    def __init__(self, *, norm, dropout):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(24) if norm else nn.Identity()
        self.conv2 = nn.Conv2d(24, 32, 3, padding=1)
        self.hidden = nn.Linear(32, 48)
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(48, 10)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        x = self.hidden(self.conv2(x).relu().mean((2, 3))).relu()
        return self.fc(self.drop(x))

def build(norm=False, dropout=0.0):
    torch.manual_seed(0)
    return Net(norm=norm, dropout=dropout)

def random():
    return build(norm=True, dropout=0.2)

def unused():
    net = build()
    net.register_parameter("spare", nn.Parameter(torch.zeros(3)))
    return net
"""


def config_of(folder: Path, out: str, factory: str = "build", **training: Any) -> RunConfig:
    (folder / "net.py").write_text(FACTORY)
    return RunConfig.model_validate(
        {
            "model": {"name": f"{folder / 'net.py'}:{factory}"},
            "data": {"name": "digits", "batch_size": 64, "limit": 640, "workers": 0},
            "target": {"macs": 0.5},
            "training": {"epochs": 5, "device": "cpu", **training},
            "output": {"directory": str(folder / out), "bench": False, "onnx": False},
        }
    )


def run(config: RunConfig) -> list[str]:
    recorder = Recorder()
    prune(config, recorder, resume=True)
    return recorder.notes


def history(config: RunConfig) -> list[dict[str, Any]]:
    lines = (config.output.directory / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("count", "factory", "training"),
    [
        (2, "build", {}),
        pytest.param(4, "build", {}, marks=pytest.mark.slow),
        # Later, entries whose gradients are next to nothing make more of how sums are rounded.
        pytest.param(2, "build", {"accumulate": 2, "max_steps": 25}, marks=pytest.mark.slow),
        pytest.param(2, "unused", {}, marks=pytest.mark.slow),
        (2, "build", {"shard": True, "distill": 0.5}),
        pytest.param(4, "build", {"shard": True}, marks=pytest.mark.slow),
        pytest.param(
            2, "build", {"shard": True, "accumulate": 2, "max_steps": 25}, marks=pytest.mark.slow
        ),
    ],
)
def test_steps_are_those_of_one_process(
    count: int, factory: str, training: dict[str, Any], tmp_path: Path
) -> None:
    alone = config_of(tmp_path, "alone", factory, **training | {"shard": False})
    run(alone)
    shared = config_of(tmp_path, "shared", factory, **training)
    together(count, run, shared, folder=tmp_path)
    expected, found = (
        load_file(config.output.directory / "model.safetensors") for config in (alone, shared)
    )
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in expected.items()}
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, rtol=0, atol=1e-6), name
    for one, other in zip(history(alone), history(shared), strict=True):
        assert one["metric"] == other["metric"]
        assert one["group_sparsity"] == other["group_sparsity"]
        if one["epoch"]:
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)


def kill_one(config: RunConfig) -> str:
    """End process 1 in the middle of an epoch, and return what another one says."""
    processes, follow = join(), Fit._after_step

    def killed(fit: Fit) -> None:
        follow(fit)
        if processes.rank == 1 and fit._training._passes.step == 23:
            os.kill(os.getpid(), signal.SIGKILL)

    Fit._after_step = killed  # type: ignore[method-assign]
    try:
        prune(config, Recorder(), resume=True)
    except TrainingError as error:
        return f"{error} / {error.hint}"
    return "nothing happened"


@pytest.mark.parametrize("shard", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_process_that_dies_ends_the_others_and_the_run_goes_on_bit_by_bit(
    tmp_path: Path, shard: bool
) -> None:
    config = config_of(tmp_path, "out", "random", shard=shard)
    notes, _ = together(2, run, config, folder=tmp_path)
    assert any("holds a part of every parameter" in note for note in notes) == shard
    expected = (config.output.directory / "model.safetensors").read_bytes()
    config.output.directory.rename(tmp_path / "undisturbed")

    began = time.monotonic()
    processes = started(2, kill_one, config, folder=tmp_path)
    for process in processes:
        process.join(120)
    assert time.monotonic() - began < 60
    assert [process.exitcode for process in processes] == [0, -signal.SIGKILL]
    message = results(1, tmp_path)[0]
    assert message.startswith("process 0 of 2 lost another one in training / ")
    assert f"`ramda prune --resume -o {config.output.directory}` goes on" in message
    notes, _ = together(2, run, config, folder=tmp_path)
    assert "goes on from step 20, 2 epochs done" in notes
    assert (config.output.directory / "model.safetensors").read_bytes() == expected


def stop_one(config: RunConfig) -> int:
    """Ask process 1 to stop, as a signal that reaches it first does."""
    processes, follow = join(), Fit._after_step

    def asked(fit: Fit) -> None:
        fit._stop.asked = processes.rank == 1 and fit._training._passes.step == 23
        follow(fit)

    Fit._after_step = asked  # type: ignore[method-assign]
    try:
        prune(config, Recorder(), resume=True)
    except RamdaError as error:
        return error.exit_code
    return 0


@pytest.mark.parametrize("shard", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_all_stop_together_and_another_number_of_them_goes_on(tmp_path: Path, shard: bool) -> None:
    config = config_of(tmp_path, "out", shard=shard)
    assert together(2, stop_one, config, folder=tmp_path) == [130, 130]
    count = 4 if shard else 1
    notes = together(4, run, config, folder=tmp_path)[0] if shard else run(config)
    assert "goes on from step 23, 2 epochs done" in notes
    assert any(note.startswith(f"begun by 2 processes, goes on with {count}: ") for note in notes)
    assert history(config)[-1]["epoch"] == 5


def refused(config: RunConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        prune(config, Recorder())
    return str(caught.value)


def test_what_cannot_be_shared_out_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, "out")
    (message, _, _) = together(3, refused, config, folder=tmp_path)
    assert message == "a batch of 64 cannot be shared out among 3 processes"
    settings = config.model_dump(mode="json") | {"target": {"latency": 0.5}}
    (message, _) = together(2, refused, RunConfig.model_validate(settings), folder=tmp_path)
    assert message.startswith("a target of latency is measured")
    assert refused(config_of(tmp_path, "out", shard=True)).startswith("training.shard spreads")
    assert not config.output.directory.exists()


def differ() -> str:
    processes = join()
    processes.require_equal("same", "the zero set")
    with pytest.raises(TrainingError) as caught:
        processes.require_equal(processes.rank, "the zero set")
    return str(caught.value)


def test_processes_that_disagree_are_told_apart(tmp_path: Path) -> None:
    for message in together(3, differ, folder=tmp_path):
        assert message == "the zero set of process 1 is not that of process 0"
