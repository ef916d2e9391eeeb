"""A pipeline that records how it is called, in place of the real one."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner, Result

from ramda_cli.cli.app import app
from ramda_cli.report.document import Report
from ramda_cli.report.plain import build_benchmark, build_inspection, build_report
from tests.report.sample import BENCHMARK, INSPECTION, REPORT, UNTRAINED

SWEEP: dict[str, object] = {"schema": 1, "model": "m", "points": []}
RESULT = {
    "file": "model.safetensors",
    "data": "digits: 360 validation images",
    "metric": "top-1 accuracy",
    "value": 0.98889,
    "is_share": True,
    "unit": "images",
    "examples": 360,
    "seconds": 0.41,
    "notes": [],
}


ARM = {
    "name": "AdamW(fused=True)",
    "step_ms": 2.0,
    "step_ms_p90": 2.5,
    "ratio": 1.0,
    "state_bytes": 8.0,
    "moved_bytes": 28.0,
    "bandwidth_share": 0.9,
    "training_step_ms": 20.0,
    "training_ratio": 1.0,
}
BENCH = {
    "model": "m",
    "device": "a CPU",
    "threads": 2,
    "torch": "2.14",
    "date": "2026-11-24T22:00+00:00",
    "params": 1_000_000,
    "tensors": 10,
    "penalized": 0.9,
    "groups": 100,
    "batch": 8,
    "rounds": 30,
    "warm_up": 10,
    "copy_bytes_per_second": 1e10,
    "zero_groups": 0.25,
    "arms": [ARM, {**ARM, "name": "RAMDA, group lasso", "ratio": 1.5, "moved_bytes": None}],
}


class FakePipeline:
    """Records arguments; `failure` is raised instead of returning."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, dict[str, Any]]] = []
        self.failure: BaseException | None = None

    def prune(self, config: Any, observer: Any, *, resume: bool = False) -> dict[str, object]:
        self.resume = resume
        observer.stage("load", config.model.name)
        observer.note("one note")
        return self._called((config,), {}, build_report(REPORT))

    def sweep(self, config: Any, settings: Any, observer: Any) -> dict[str, object]:
        observer.note("run 1 of 1")
        return self._called((config, settings), {}, SWEEP)

    def remove(self, config: Any, observer: Any) -> dict[str, object]:
        observer.stage("load", str(config.checkpoint))
        return self._called((config,), {}, build_report(UNTRAINED))

    def inspect(self, *args: Any, **more: Any) -> dict[str, object]:
        return self._called(args, more, build_inspection(INSPECTION))

    def evaluate(self, *args: Any, **more: Any) -> dict[str, object]:
        return self._called(args, more, RESULT)

    def bench(self, path: Path, *, observer: Any, **options: Any) -> dict[str, object]:
        observer.stage("bench", "eager at batch 1")
        return self._called((path,), options, build_benchmark(BENCHMARK))

    def bench_optimizer(self, model: Any, *, observer: Any, **options: Any) -> dict[str, object]:
        observer.stage("measure", "rounds")
        return self._called((model,), options, BENCH)

    def _called(self, args: Any, more: dict[str, Any], result: Any) -> dict[str, object]:
        print("noise of a library")
        self.calls.append((args, more))
        if self.failure is not None:
            raise self.failure
        return dict(result)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    fake = FakePipeline()
    module = ModuleType("ramda_cli.pipeline")
    for name in ("prune", "sweep", "remove", "inspect", "evaluate", "bench", "bench_optimizer"):
        setattr(module, name, getattr(fake, name))
    module.SweepSettings = lambda *args: args  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ramda_cli.pipeline", module)
    return fake


@pytest.fixture
def ramda() -> Callable[..., Result]:
    def run(*args: str) -> Result:
        result = CliRunner().invoke(app, list(args), prog_name="ramda")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def write_pruned(path: Path, report: Report) -> Path:
    metadata = {"ramda_format": "1", "ramda": json.dumps({"report": build_report(report)})}
    save_file({"weight": np.zeros(4, np.float32)}, path, metadata=metadata)
    return path


@pytest.fixture
def pruned(tmp_path: Path) -> Path:
    return write_pruned(tmp_path / "model.safetensors", REPORT)
