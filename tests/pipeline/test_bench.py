"""`ramda bench FILE` on real files: what is measured, and beside what."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ramda_cli.config.schema import ModelConfig
from ramda_cli.errors import BenchError, ConfigError, FileFormatError, ModelError
from ramda_cli.export import save
from ramda_cli.models.loading import load_model
from ramda_cli.observer import SilentObserver
from ramda_cli.pipeline import bench
from ramda_cli.pipeline.latency import plan_benchmark
from ramda_cli.report.plain import parse_benchmark
from tests.export.helpers import rewrite, shrunk
from tests.pipeline.test_evaluate import DETAILS
from tests.training.problems import net

CPU = torch.device("cpu")
FACTORY = """
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv = nn.Conv2d(1, 12, 3, padding=1)
        self.fc = nn.Linear(12, classes)

    def forward(self, x):
        return self.fc(F.relu(self.conv(x)).mean((2, 3)))

def build():
    return Net(10)

def other_head():
    return Net(1000)
"""


class Notes(SilentObserver):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def run(path: Path, **more: Any) -> Any:
    quick = {"runtimes": ["eager"], "batch_sizes": [2], "threads": 1, "seconds": 0.05}
    observer = more.pop("observer", SilentObserver())
    document = bench(path, observer=observer, device="cpu", **{**quick, **more})
    return parse_benchmark(document)


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    loaded = load_model(ModelConfig(name="digits-resnet"))
    case = shrunk(loaded.module, loaded.example_inputs, source=loaded.source)
    path = tmp_path_factory.mktemp("native") / "model.safetensors"
    assert save(case.smaller, case.plan, path, details=DETAILS) == "native"
    return path


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    case = shrunk(net(), torch.zeros(2, 1, 8, 8))
    path = tmp_path_factory.mktemp("graph") / "model.safetensors"
    assert save(case.smaller, case.plan, path, details=DETAILS) == "graph"
    return path


@pytest.fixture
def factories(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(FACTORY)
    return path


def test_a_file_is_measured_beside_the_model_it_names(native: Path) -> None:
    document = bench(
        native, observer=SilentObserver(), device="cpu", runtimes=["eager", "onnx"],
        batch_sizes=[8, 1, 8], threads=1, seconds=0.4,
    )  # fmt: skip
    keys = ["schema", "file", "dense", "latency", "versions", "date", "notes"]
    assert list(document) == keys
    measured = parse_benchmark(document)
    assert measured.dense == "digits-resnet"
    assert measured.latency.threads == 1
    entries = measured.latency.measurements
    assert [(entry.runtime, entry.batch_size) for entry in entries] == [
        ("eager", 1), ("eager", 8), ("onnx", 1), ("onnx", 8),
    ]  # fmt: skip
    assert all(entry.dense is not None and entry.speedup is not None for entry in entries)
    assert measured.notes == ()


def test_a_model_that_nobody_knows_is_measured_alone(graph: Path) -> None:
    observer = Notes()
    measured = run(graph, observer=observer)
    assert measured.dense is None
    assert measured.latency.measurements[0].speedup is None
    assert observer.notes == [
        "the file does not say how its dense model is built, so the pruned model is measured"
        " alone; name it with --dense path/to/file.py:factory"
    ]
    assert measured.notes == tuple(observer.notes)


@pytest.mark.parametrize("name", ["build", "other_head"])
def test_a_factory_gives_the_dense_model(graph: Path, factories: Path, name: str) -> None:
    head = {"head": "fc", "num_classes": 10} if name == "other_head" else {}
    source = {"kind": "file", "name": "elsewhere/net.py:build", "arguments": head}
    path = rewrite(graph, document=lambda document: document.update(source=source))
    observer = Notes()
    measured = run(path, observer=observer, dense=f"{factories}:{name}")
    assert measured.dense == f"{factories}:{name}"
    assert measured.latency.measurements[0].speedup is not None
    assert observer.notes == [f"loading {factories}:{name} ran the Python code of that file"]


def test_a_factory_that_does_not_fit_is_named(graph: Path, factories: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run(graph, dense="resnet50")
    assert str(caught.value) == "--dense must be path/to/file.py:factory, got 'resnet50'"
    with pytest.raises(BenchError, match=r"dense model gives outputs of shape \[\(2, 1000\)\]"):
        run(graph, dense=f"{factories}:other_head")
    source = {"kind": "file", "name": "x.py:build", "arguments": {"head": "classifier"}}
    path = rewrite(graph, document=lambda document: document.update(source=source))
    with pytest.raises(ModelError, match="has no layer classifier, the head that training"):
        run(path, dense=f"{factories}:build")


@pytest.mark.parametrize("source", [None, [], 3, {}, {"kind": "file", "arguments": ["head"]}])
def test_an_odd_source_is_no_source(graph: Path, factories: Path, source: object) -> None:
    path = rewrite(graph, document=lambda document: document.update(source=source))
    assert run(path).dense is None
    assert run(path, dense=f"{factories}:build").dense == f"{factories}:build"


def test_a_file_that_does_not_tell_its_inputs_is_refused(graph: Path) -> None:
    path = rewrite(graph, document=lambda document: document.update(details={}, probe=None))
    with pytest.raises(FileFormatError, match="does not say what its inputs must look like"):
        run(path)


def test_inputs_that_the_model_does_not_take_are_named(graph: Path) -> None:
    def grow(document: dict[str, Any]) -> None:
        document["probe"] = None
        document["details"]["preprocessing"].update(
            input_size=[3, 8, 8], mean=[0.5] * 3, std=[0.5] * 3
        )

    with pytest.raises(BenchError, match=r"^GraphModel cannot be run on its example inputs"):
        run(rewrite(graph, document=grow))


def test_what_is_measured_by_default_depends_on_the_device() -> None:
    cpu = plan_benchmark(CPU, seconds=20.0)
    assert (cpu.runtimes, cpu.batch_sizes) == (("eager", "onnx"), (1, 32))
    assert cpu.threads == torch.get_num_threads()
    assert cpu.share == 5.0
    cuda = plan_benchmark(torch.device("cuda:1"), seconds=20.0, threads=3)
    assert (cuda.runtimes, cuda.batch_sizes, cuda.threads) == (("eager",), (1, 256), 3)
    twice = plan_benchmark(CPU, seconds=1.0, runtimes=["onnx", "onnx"], batch_sizes=[4, 2, 4])
    assert (twice.runtimes, twice.batch_sizes) == (("onnx",), (2, 4))


def test_onnx_runtime_is_not_measured_on_a_gpu() -> None:
    with pytest.raises(ConfigError, match="ONNX Runtime is measured on the CPU"):
        plan_benchmark(torch.device("cuda"), seconds=1.0, runtimes=["eager", "onnx"])
