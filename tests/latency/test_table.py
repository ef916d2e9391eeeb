"""The latency table: what it fits is checked with made-up times, what it times for real."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ramda_cli.latency import measure_table, model_of_widths, table, timing
from ramda_cli.latency.timing import Candidate, Timed, time_models
from ramda_cli.observer import SilentObserver
from ramda_cli.structure import Structure, discover
from ramda_cli.surgery.kept import KeptPositions
from ramda_cli.surgery.program import GraphModel
from ramda_cli.surgery.rewrite import rewrite_program

CPU = torch.device("cpu")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 48, 3, padding=1)
        self.fc = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv2(self.conv1(x).relu()).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> tuple[Net, Structure]:
    model = Net().eval()
    return model, discover(model, torch.zeros(2, 3, 8, 8))


def measured(net: tuple[Net, Structure], floor: int = 3) -> table.LatencyTable:
    model, structure = net
    floors = np.full(2, floor)
    one = torch.zeros(1, 3, 8, 8)
    return measure_table(model, structure, one, device=CPU, floor=floors, observer=SilentObserver())


def widths_of(model: GraphModel) -> list[int]:
    return [dict(model.named_parameters())[f"{name}.bias"].numel() for name in ("conv1", "conv2")]


def test_times_that_follow_the_formula_are_met_for_unseen_widths(
    net: tuple[Net, Structure], monkeypatch: pytest.MonkeyPatch
) -> None:
    def times(models: Sequence[Candidate], *_: Any, **__: Any) -> list[Timed]:
        found = []
        for model in models:
            one, other = widths_of(model.graph)
            operators = {"conv2d": 500.0 + 60.0 * one, "conv2d_1": 900.0 + 7.0 * one * other}
            operators |= {"relu": 20.0 * one, "linear": 100.0}
            # A call costs half as much again as its operators.
            found.append(Timed(1.5 * sum(operators.values()), operators))
        return found

    monkeypatch.setattr(table, "time_models", times)
    found = measured(net)
    dense = 1.5 * (500 + 60 * 32 + 900 + 7 * 32 * 48 + 20 * 32 + 100)
    assert found.dense_ns == pytest.approx(dense)
    assert max(map(abs, found.errors)) < 1e-6
    assert found.products(np.array([10.0, 20.0])) == pytest.approx(
        1.5 * (500 + 600 + 900 + 7 * 200 + 200 + 100)
    )
    assert found.operators["conv2d_1"] == pytest.approx(900 + 7 * 32 * 48)


def test_models_of_random_widths_keep_the_floor(
    net: tuple[Net, Structure], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []

    def times(models: Sequence[Candidate], *_: Any, **__: Any) -> list[Timed]:
        seen.extend(widths_of(model.graph) for model in models)
        return [Timed(1.0, {"conv2d": 1.0}) for _ in models]

    monkeypatch.setattr(table, "time_models", times)
    measured(net, floor=20)
    widths = np.array(seen)
    assert widths[0].tolist() == [32, 48]
    assert widths.min() >= 20
    assert len({tuple(each) for each in seen}) > 10


def test_every_operator_is_timed_and_a_table_adds_up(net: tuple[Net, Structure]) -> None:
    _, structure = net
    found = measured(net)
    assert structure.graph is not None
    calls = {n.name for n in structure.graph.trace.program.graph.nodes if n.op == "call_function"}
    assert set(found.operators) == calls
    # Loosely: other work may run beside the tests.
    assert 0.3 < found.products(np.array([32.0, 48.0])) / found.dense_ns < 3


def test_an_operator_that_a_clock_is_too_coarse_for_is_left_to_the_factor(
    net: tuple[Net, Structure], monkeypatch: pytest.MonkeyPatch
) -> None:
    def times(models: Sequence[Candidate], *_: Any, **__: Any) -> list[Timed]:
        return [
            Timed(50.0, {"conv2d": 40.0, "relu": 0.0 if number == 4 else 1.0})
            for number in range(len(models))
        ]

    monkeypatch.setattr(table, "time_models", times)
    found = measured(net)
    assert set(found.operators) == {"conv2d"}
    assert found.products(np.array([9.0, 9.0])) == pytest.approx(50.0)


def test_the_least_of_several_runs_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(8, 8)).eval()
    structure = discover(model, torch.zeros(2, 8))
    assert structure.graph is not None
    kept = KeptPositions.of_channels(structure.graph, {})
    graph = rewrite_program(model, structure.graph.trace, kept).eval()
    operations = graph.program.operations
    now, readings = 0.0, 0

    def clock(_: torch.device) -> float:
        """Tell that all takes 100 ns in each of the five rounds, but 10 ns in the third."""
        nonlocal now, readings
        now += 10.0 if readings // (3 + 2 * len(operations)) == 2 else 100.0
        readings += 1
        return now

    monkeypatch.setattr(timing, "_now", clock)
    monkeypatch.setattr(timing, "_SECONDS", 0.0)
    (timed,) = time_models([Candidate(model, graph)], [torch.zeros(1, 8)], {}, device=CPU)
    assert readings == 5 * (3 + 2 * len(operations))
    assert timed.whole == 10.0
    assert timed.operators == {operation.name: 10.0 for operation in operations}


def test_a_model_of_given_widths_keeps_its_class(net: tuple[Net, Structure]) -> None:
    model, structure = net
    smaller = model_of_widths(model, structure, np.array([10.0, 48.0]))
    assert isinstance(smaller, Net)
    assert (smaller.conv1.out_channels, smaller.conv2.out_channels) == (10, 48)
    assert model.conv1.weight.all()
