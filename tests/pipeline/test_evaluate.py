import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ramda_cli.config.schema import DataConfig
from ramda_cli.data.bundle import DataBundle
from ramda_cli.errors import FileFormatError, TrainingError
from ramda_cli.export import save
from ramda_cli.pipeline import evaluate
from ramda_cli.pipeline.devices import choose_device
from ramda_cli.pipeline.loading import load_data
from tests.export.helpers import rewrite, shrunk
from tests.training.problems import net

DATA = DataConfig(name="digits")
DETAILS = {
    "task": "image-classification",
    "labels": [str(digit) for digit in range(10)],
    "preprocessing": {
        "input_size": [1, 8, 8],
        "mean": [0.305],
        "std": [0.376],
        "interpolation": "bicubic",
        "crop_pct": 1.0,
    },
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    case = shrunk(net(), torch.zeros(2, 1, 8, 8))
    written = tmp_path_factory.mktemp("evaluate") / "model.safetensors"
    save(case.smaller, case.plan, written, details=DETAILS)
    return written


def test_a_file_is_measured_on_the_validation_images(path: Path) -> None:
    result = evaluate(path, DATA, device="cpu")
    assert list(result) == [
        "file",
        "data",
        "metric",
        "value",
        "is_share",
        "unit",
        "examples",
        "seconds",
        "notes",
    ]
    assert result["file"] == str(path)
    assert result["examples"] == 355
    assert isinstance(result["value"], float)
    assert 0 < result["value"] < 0.5


def change(*keys: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(document: dict[str, Any]) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = to

    return apply


@pytest.mark.parametrize(
    "damage",
    [
        change("details", to=None),
        change("details", to={}),
        change("details", "labels", to=3),
        change("details", "preprocessing", to=[]),
        change("details", "preprocessing", "input_size", to=[1, 8]),
        change("details", "preprocessing", "input_size", to=[1, 10**9, 10**9]),
        change("details", "preprocessing", "input_size", to=[1, 0, 8]),
        change("details", "preprocessing", "input_size", to=[4, 8, 8]),
        change("details", "preprocessing", "input_size", to=[1, 8, "x"]),
        change("details", "preprocessing", "mean", to=[0.3, 0.3]),
        change("details", "preprocessing", "std", to=[0.0]),
        change("details", "preprocessing", "std", to=[]),
        change("details", "preprocessing", "crop_pct", to=0),
        change("details", "preprocessing", "crop_pct", to="1e400"),
        change("details", "preprocessing", "interpolation", to="magic"),
    ],
)
def test_damaged_details_are_refused(path: Path, damage: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(FileFormatError, match=r"does not say what its inputs must look like$"):
        evaluate(rewrite(path, document=damage), DATA, device="cpu")


def of_a_run(size: object) -> dict[str, Any]:
    return {"reproducibility": {"config": {"data": {"eval_batch_size": size}}}}


@pytest.mark.parametrize(
    ("report", "given", "expected"),
    [
        (of_a_run(7), {}, 7),
        (of_a_run(7), {"eval_batch_size": 9}, 9),
        (of_a_run(-7), {}, 1),
        (of_a_run(10**30), {}, 2**16),
        (of_a_run("7"), {}, 256),
        ({"reproducibility": {"config": {"data": None}}}, {}, 256),
        (None, {}, 256),
    ],
)
def test_as_many_at_once_as_in_the_run(
    path: Path,
    report: object,
    given: dict[str, int],
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def opened(config: DataConfig, *args: Any, **more: Any) -> DataBundle:
        asked.append(config.eval_batch_size)
        return load_data(config, *args, **more)

    monkeypatch.setattr(sys.modules[evaluate.__module__], "load_data", opened)
    changed = rewrite(path, document=change("report", to=report))
    evaluate(changed, DataConfig(name="digits", **given), device="cpu")
    assert asked == [expected]


def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(TrainingError, match=r"^device cuda:2 is not available: torch sees 2 CUDA"):
        choose_device("cuda:2")
    assert str(choose_device("cuda:1")) == "cuda:1"
    assert str(choose_device("cuda")) == "cuda"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose_device("auto").type == "cuda"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto").type == choose_device("cpu").type == "cpu"
