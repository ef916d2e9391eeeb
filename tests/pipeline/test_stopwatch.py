"""The clock of a latency target: what is timed, and what is said of it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ramda_cli.benchmark import Measurement, Ratio, Timing
from ramda_cli.errors import BenchError
from ramda_cli.observer import SilentObserver
from ramda_cli.pipeline import latency
from ramda_cli.pipeline.latency import Stopwatch
from ramda_cli.structure import discover
from tests.pipeline.recording import Recorder


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 24, 3, padding=1)
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv2(self.conv1(x).relu()).relu().mean((2, 3)))


def stopwatch(dense_ns: float | None) -> Stopwatch:
    model, images = Net().eval(), torch.zeros(2, 3, 8, 8)
    return Stopwatch(
        model, discover(model, images), (images,), torch.device("cpu"),
        dense_ns=dense_ns, observer=SilentObserver(),
    )  # fmt: skip


@pytest.mark.parametrize(("dense_ns", "expected"), [(9e6, 6e6), (None, 5e6)])
def test_a_share_counts_by_the_ratio_and_milliseconds_by_the_clock(
    dense_ns: float | None, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = []

    def measure(dense: nn.Module, pruned: nn.Module, *_: Any) -> tuple[Measurement, ...]:
        timed.extend([dense, pruned])
        dense_time, pruned_time = Timing(8.0, 9.0, 125.0), Timing(5.0, 6.0, 200.0)
        return (Measurement("eager", 1, 9, dense_time, pruned_time, Ratio(1.5, 1.4, 1.6)),)

    monkeypatch.setattr(latency, "measure", measure)
    clock = stopwatch(dense_ns)
    found = clock(np.array([5.0, 24.0]))
    assert found == pytest.approx(expected)
    assert clock.readings == {(5.0, 24.0): found}
    dense, pruned = timed
    assert isinstance(pruned, Net)
    assert (dense.conv1.out_channels, pruned.conv1.out_channels) == (16, 5)


def test_a_smaller_model_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "_SECONDS", 0.1)
    # Loosely: other work may run beside the tests.
    found = stopwatch(1.0)(np.array([8.0, 8.0]))
    assert found is not None
    assert 0.02 < found < 50


def test_what_cannot_be_timed_is_noted_and_no_reason_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measure(*_: Any) -> tuple[Measurement, ...]:
        raise BenchError("256 inputs take 3.0 GiB")

    monkeypatch.setattr(latency, "measure", measure)
    recorder = Recorder()
    clock = replace(stopwatch(1.0), observer=recorder)
    assert clock(np.array([8.0, 8.0])) is None
    assert recorder.notes == [
        "the channels follow the latency table alone: 256 inputs take 3.0 GiB"
    ]
    assert not clock.readings
