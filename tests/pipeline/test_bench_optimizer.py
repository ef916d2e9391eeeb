"""The benchmark of the optimizer: figures that follow from one another, and their table."""

import json

import pytest
from rich.console import Console

from ramda_cli.config.schema import ModelConfig
from ramda_cli.errors import TrainingError
from ramda_cli.observer import SilentObserver
from ramda_cli.pipeline import bench_optimizer
from ramda_cli.report.bench_view import render_optimizer_bench


@pytest.fixture(scope="module")
def bench() -> dict[str, object]:
    return bench_optimizer(
        ModelConfig(name="digits-resnet", pretrained=False),
        device="cpu",
        observer=SilentObserver(),
        batch=2,
        rounds=3,
        warm_up=1,
        reference=True,
        low_rank=True,
    )


def test_figures_follow_from_one_another(bench: dict[str, object]):
    adamw, ramda, free, reference, nuclear, seldom = bench["arms"]
    assert adamw["name"] == "AdamW(fused=True)"
    assert adamw["ratio"] == adamw["training_ratio"] == 1.0
    for arm in (adamw, ramda, free, reference, nuclear, seldom):
        assert 0 < arm["step_ms"] <= arm["step_ms_p90"]
        assert arm["step_ms"] < arm["training_step_ms"]
    assert reference["moved_bytes"] is nuclear["moved_bytes"] is seldom["moved_bytes"] is None
    assert "every 10 steps" in seldom["name"]
    assert free["moved_bytes"] == 32
    assert 32 < ramda["moved_bytes"] <= 44
    speed = ramda["moved_bytes"] * bench["params"] / (1e-3 * ramda["step_ms"])
    assert ramda["bandwidth_share"] == pytest.approx(speed / bench["copy_bytes_per_second"])
    # Two fp32 tensors per parameter for AdamW and a counter per tensor, three for RAMDA.
    counters = 4 * bench["tensors"] / bench["params"]
    assert adamw["state_bytes"] == pytest.approx(8 + counters)
    assert free["state_bytes"] == 12
    assert ramda["state_bytes"] == pytest.approx(12 + 8 * bench["groups"] / bench["params"])
    assert bench["rounds"] == 3
    assert json.loads(json.dumps(bench)) == json.loads(json.dumps(bench, sort_keys=True))


def test_the_table_says_what_was_measured(bench: dict[str, object]):
    console = Console(width=160, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        render_optimizer_bench(bench, console)
    shown = captured.get()
    assert "a step of RAMDA costs" in shown
    for arm in bench["arms"]:
        assert arm["name"] in shown
        assert f"{arm['step_ms']:.2f} ms" in shown


def test_a_device_that_is_not_there_is_said_at_once():
    with pytest.raises(TrainingError, match="device cuda:77 is not available"):
        bench_optimizer(
            ModelConfig(name="digits-resnet"), device="cuda:77", observer=SilentObserver()
        )
