"""Whole commands on real data: the digits, and small models."""

import contextlib
import errno
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import Result

from ramda_cli import load
from ramda_cli.benchmark import Measurement, Ratio, Timing
from ramda_cli.config.loading import load_config
from ramda_cli.errors import BenchError
from ramda_cli.file_header import read_header_report
from ramda_cli.latency.timing import Timed

Run = Callable[..., Result]
ROOT = Path(__file__).resolve().parents[2]
FACTORY = """
import torch
from torch import nn

PREPROCESSING = dict(input_size=(1, 8, 8), mean=(0.305,), std=(0.376,))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 16, 3, padding=1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = self.norm(self.conv1(x)).relu()
        return self.fc(self.conv2(x).relu().mean(dim=(2, 3)))

def build():
    return Net()
"""
QUICK = ["--data", "digits", "--limit", "256", "--batch-size", "32", "--epochs", "2"]
QUICK += ["--device", "cpu", "--no-onnx", "--no-bench"]
HALF = ["--target", "macs=0.5"]


def module(name: str) -> Any:
    """Return a module whose name its package gives to a function."""
    return importlib.import_module(name)


@pytest.fixture
def factory(tmp_path: Path) -> str:
    path = tmp_path / "net.py"
    path.write_text(FACTORY)
    return f"{path}:build"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """Return an environment without a network, a cache or data."""
    hidden = {"IMAGENET_DIR", "HF_TOKEN", "RAMDA_DEBUG", "FORCE_COLOR"}
    kept = {key: value for key, value in os.environ.items() if key not in hidden}
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    return {**kept, **offline, "PYTHONPATH": str(ROOT), **more}


def command(*args: object) -> list[str]:
    main = "from ramda_cli.cli.app import main; main()"
    return [sys.executable, "-c", main, *map(str, args)]


def last_lines(result: Result | subprocess.CompletedProcess[str]) -> str:
    return "\n".join(result.stderr.splitlines()[-2:])


# The whole run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the README's first command, shorter, in a process of its own."""
    folder = tmp_path_factory.mktemp("finished")
    args = "prune digits-resnet --data digits --limit 512 --epochs 2 --device cpu --json -o out"
    done = subprocess.run(
        command(*args.split(), *HALF), cwd=folder, env=environment(folder),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "out", done.stdout


def test_every_file_is_there(finished: tuple[Path, str]) -> None:
    out, _ = finished
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert names == [
        "README.md",
        "checkpoints/best.safetensors",
        "checkpoints/last.safetensors",
        "config.yaml",
        "metrics.jsonl",
        "model.onnx",
        "model.safetensors",
        "report.html",
        "report.json",
        "run.log",
    ]
    lines = (out / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2]


def test_the_card_is_one_that_the_hub_reads(finished: tuple[Path, str]) -> None:
    card = ModelCard.load(finished[0] / "README.md")
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.license == "apache-2.0"
    (result,) = card.data.eval_results
    assert result.metric_value == json.loads(finished[1])["accuracy"]["recovered"]
    code = card.text.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {"images": torch.zeros(2, 1, 8, 8)}
    with contextlib.chdir(finished[0]):
        exec(code, names)
    assert names["logits"].shape == (2, 10)


def test_the_report_is_the_same_everywhere(finished: tuple[Path, str]) -> None:
    out, printed = finished
    written = json.loads((out / "report.json").read_text())
    assert json.loads(printed) == written
    inside: Any = read_header_report(out / "model.safetensors")
    # A file cannot hold its own hash; and it holds no time, so that the same run gives the same.
    assert written["training"].pop("seconds") > 0
    assert written["reproducibility"].pop("date")
    assert inside["training"].pop("seconds") is None
    assert inside["reproducibility"].pop("date") is None
    assert {**written, "files": None} == {**inside, "files": None}
    assert [f for f in written["files"] if f["name"] != "model.safetensors"] == inside["files"]
    for entry in written["files"]:
        assert entry["bytes"] == (out / entry["name"]).stat().st_size


def test_the_run_kept_its_promises(finished: tuple[Path, str]) -> None:
    report = json.loads(finished[1])
    assert report["reached"]["met"]
    assert 0.48 < report["reached"]["share"] <= 0.5
    assert report["size"]["pruned"]["macs"] == report["reached"]["count"]
    accuracy = report["accuracy"]
    assert accuracy["dense"] > 0.9
    cut, last = (report["training"]["history"][epoch]["metric"] for epoch in (1, 2))
    assert report["training"]["removal_epoch"] == 1
    assert accuracy["before_removal"] == accuracy["after_removal"] == cut > 0.5
    assert {accuracy[name] for name in ("recovered", "reloaded", "onnx")} == {last}
    assert report["proof"]["passed"]
    assert [check["dtype"] for check in report["proof"]["checks"]] == [
        "float64", "float32", "float64", "float32",
    ]  # fmt: skip
    model = load(finished[0] / "model.safetensors")
    assert sum(p.numel() for p in model.parameters()) == report["size"]["pruned"]["params"]


def test_the_report_has_the_latency(finished: tuple[Path, str]) -> None:
    latency = json.loads(finished[1])["latency"]
    assert [(m["runtime"], m["batch_size"]) for m in latency["measurements"]] == [
        ("eager", 1), ("eager", 32),
    ]  # fmt: skip
    for measured in latency["measurements"]:
        assert measured["speedup"]["low"] <= measured["speedup"]["high"]
        assert measured["dense"]["median_ms"] > 0


def test_a_proven_run_does_not_fail_for_want_of_a_latency(
    ramda: Run, out: Path, factory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def fail(*models: object) -> None:
        measured.extend(type(model).__name__ for model in models[:2])
        raise BenchError("256 inputs take 3.0 GiB")

    prune = module("ramda_cli.pipeline.prune")
    monkeypatch.setattr(prune, "measure_latency", fail)
    args = [arg for arg in QUICK if arg != "--no-bench"]
    result = ramda("prune", factory, *args, *HALF, "-o", str(out), "--json")
    assert result.exit_code == 0, result.stderr
    assert "note: the latency was not measured: 256 inputs take 3.0 GiB\n" in result.stderr
    assert json.loads(result.stdout)["latency"] is None
    assert measured == ["Net", "GraphModel"]  # what the file loads as, not what was removed from


def test_a_latency_that_was_estimated_wrongly_is_corrected_when_the_channels_are_final(
    ramda: Run, out: Path, factory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that counts MACs, and tells of whole models that they take less than was fitted."""

    def nanoseconds(model: nn.Module) -> float:
        widths = dict(model.named_parameters())
        one, other = widths["conv1.bias"].numel(), widths["conv2.bias"].numel()
        return 1e6 * (9.0 * one + 9.0 * one * other)

    def times(candidates: Sequence[Any], *_: Any, **__: Any) -> list[Timed]:
        found = [nanoseconds(each.graph) for each in candidates]
        return [Timed(t, {"conv2d_1": t}) for t in found]

    def clock(dense: nn.Module, pruned: nn.Module, *_: Any) -> tuple[Measurement, ...]:
        whole, rest = nanoseconds(dense), nanoseconds(pruned)
        taken = rest * (0.8 + 0.2 * rest / whole)
        before, after = (Timing(t / 1e6, t / 1e6, 1e9 / t) for t in (whole, taken))
        ratio = whole / taken
        return (Measurement("eager", 1, 9, before, after, Ratio(ratio, ratio, ratio)),)

    monkeypatch.setattr(module("ramda_cli.latency.table"), "time_models", times)
    monkeypatch.setattr(module("ramda_cli.pipeline.latency"), "measure", clock)
    result = ramda("prune", factory, *QUICK, "--target", "latency=0.5", "-o", str(out), "--json")
    assert result.exit_code == 0, result.stderr
    assert "with the channels chosen\n" in result.stderr
    report = json.loads(result.stdout)
    assert report["latency"] is not None  # whatever --no-bench says
    # One channel of the second convolution is about 3 %.
    assert -0.05 < report["reached"]["relative_deviation"] <= 0


def test_report_and_eval_read_what_was_written(finished: tuple[Path, str], ramda: Run) -> None:
    out, printed = finished
    shown = ramda("report", str(out))
    assert shown.exit_code == 0
    assert "digits-resnet" in shown.stdout
    measured = ramda("eval", str(out), "--data", "digits", "--device", "cpu", "--json")
    assert measured.exit_code == 0
    result = json.loads(measured.stdout)
    assert result["value"] == json.loads(printed)["accuracy"]["reloaded"]
    assert result["examples"] == json.loads(printed)["data"]["val_size"]


def test_the_resolved_configuration_can_be_run_again(finished: tuple[Path, str]) -> None:
    config = load_config(finished[0] / "config.yaml", {}, ())
    expected = json.loads(finished[1])["reproducibility"]["config"]
    assert config.model_dump(mode="json") == expected


def test_the_last_checkpoint_is_a_smaller_model(finished: tuple[Path, str], ramda: Run) -> None:
    last = finished[0] / "checkpoints/last.safetensors"
    result = ramda("eval", str(last), "--data", "digits", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.stderr
    value = json.loads(result.stdout)["value"]
    # BatchNorm statistics are recomputed before the last epoch is measured.
    assert value == json.loads(finished[1])["accuracy"]["recovered"]


def test_eval_refuses_other_classes(finished: tuple[Path, str], ramda: Run, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos")
    result = ramda("eval", str(finished[0]), "--data", str(photos), "--device", "cpu")
    assert (result.exit_code, result.stdout) == (1, "")
    assert last_lines(result) == (
        f"error: {finished[0] / 'model.safetensors'} tells 10 classes apart, {photos} has 2\n"
        "hint: evaluate it on data with the classes it was trained on"
    )


def test_a_model_of_ones_own_needs_its_code_no_more(
    ramda: Run, factory: str, out: Path, tmp_path: Path
) -> None:
    args = [
        "--weight",
        "0.03",
        "--regularizer",
        "group-mcp",
        "--milestones",
        "1",
        "--momentum",
        "0.5",
    ]
    result = ramda("prune", factory, *QUICK, *args, "-o", str(out), "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["asked"]["metric"], report["asked"]["weight"]) == (None, 0.03)
    assert report["asked"]["regularizer"] == "group-mcp"
    assert report["accuracy"]["dense"] == report["training"]["history"][0]["metric"]
    assert report["accuracy"]["onnx"] is None
    assert not (out / "model.onnx").exists()
    (tmp_path / "net.py").unlink()
    measured = ramda("eval", str(out), "--data", "digits", "--device", "cpu", "--json")
    assert json.loads(measured.stdout)["value"] == report["training"]["history"][-1]["metric"]


def test_a_new_head_has_no_dense_accuracy(
    ramda: Run, factory: str, out: Path, tmp_path: Path
) -> None:
    photos = image_folder(tmp_path / "photos")
    args = ["--data", str(photos), "--batch-size", "4", "--epochs", "1", "--no-onnx", "--no-bench"]
    result = ramda("prune", factory, *args, *HALF, "-o", str(out), "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["accuracy"]["dense"] is None
    assert any("a new head starts from random weights" in note for note in report["notes"])


def test_overwrite_replaces_an_earlier_run(
    ramda: Run, factory: str, out: Path, finished: tuple[Path, str]
) -> None:
    shutil.copytree(finished[0], out)
    result = ramda("prune", factory, *QUICK, *HALF, "-o", str(out), "--overwrite")
    assert result.exit_code == 0, result.stderr
    assert not (out / "model.onnx").exists()
    assert read_header_report(out / "model.safetensors")["model"]["name"] == factory  # type: ignore[index]


# What a user can get wrong


def image_folder(root: Path, *, broken: bool = False) -> Path:
    generator = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for number in range(5):
            pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number}.png")
    if broken:
        (root / "dog" / "2.png").write_bytes(b"no image")
    return root


def refused(result: Result, code: int, error: str, hint: str, out: Path) -> None:
    assert (result.exit_code, result.stdout) == (code, "")
    assert last_lines(result) == f"error: {error}\nhint: {hint}"
    assert not out.exists()


@pytest.mark.parametrize(
    ("args", "code", "error", "hint"),
    [
        (
            ["resnet5O", "--data", "digits", *HALF],
            1,
            "unknown model 'resnet5O'",
            "did you mean resnet50, resnet51q, resnet50t?",
        ),
        (
            ["digits-resnet", "--data", "digit", *HALF],
            1,
            "unknown data set 'digit'",
            "did you mean digits?",
        ),
        (
            ["digits-resnet", "--data", "./nowhere", *HALF],
            1,
            "no such file or directory: ./nowhere",
            "check the path given to --data",
        ),
        (
            ["digits-resnet", "--data", "digits", "--target", "macs=1.5"],
            2,
            "target macs must be a share in (0, 1] or a whole count above 1, got '1.5'",
            "an amount above 1 is a count; a share is at most 1",
        ),
        (
            ["digits-resnet", "--data", "digits", "--target", "macs=0"],
            2,
            "target macs must be a share in (0, 1] or a whole count above 1, got '0'",
            "for example --target macs=0.5 for half of the MACs, or --target params=10M",
        ),
        (
            ["digits-resnet", "--data", "digits", "--target", "macs=0.001"],
            3,
            "target macs=0.001 cannot be reached: with every removable channel gone down to the "
            "floor, 42,126 of 3,034,368 macs are left",
            "ask for --target macs=0.014 or more, or lower --floor",
        ),
        (
            ["digits-resnet", "--data", "digits", "--target", "macs=100M"],
            3,
            "target macs=100,000,000 is more than the model has: 3,034,368 macs",
            "ask for less, for example --target macs=0.5",
        ),
        (
            ["digits-resnet", "--data", "digits", "--penalize", "paper", *HALF],
            2,
            "a target needs the coupled groups of --penalize consumers",
            "the paper's single-tensor groups go with --weight",
        ),
        (
            ["digits-resnet", "--data", "digits", "--keep", "*", *HALF],
            1,
            "nothing in digits-resnet can be removed",
            "`ramda inspect digits-resnet` lists every fixed channel and its reason",
        ),
        (
            ["digits-resnet", "--data", "digits", "--device", "cuda:99", *HALF],
            1,
            f"device cuda:99 is not available: torch sees {torch.cuda.device_count()} CUDA devices",
            "choose --device cpu, or check CUDA_VISIBLE_DEVICES and the driver",
        ),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_written(
    ramda: Run, out: Path, args: list[str], code: int, error: str, hint: str
) -> None:
    refused(ramda("prune", *args, "-o", str(out)), code, error, hint, out)


def test_a_directory_without_classes_is_named(ramda: Run, out: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(
        ramda("prune", "digits-resnet", "--data", str(empty), *HALF, "-o", str(out)),
        1,
        f"no classes in {empty}: it has no folders with images",
        "put the images of each class in a folder: DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg,"
        " or DIR/CLASS/*.jpg",
        out,
    )


def test_an_unreadable_image_is_named(ramda: Run, out: Path, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", broken=True)
    refused(
        ramda("prune", "digits-resnet", "--data", str(photos), *HALF, "-o", str(out)),
        1,
        f"cannot read image {photos / 'dog' / '2.png'}",
        "repair or delete the file; no image is skipped silently",
        out,
    )


def test_weights_of_another_model_are_named(
    ramda: Run, out: Path, tmp_path: Path, factory: str
) -> None:
    weights = tmp_path / "w.safetensors"
    save_file({"conv1.weight": torch.ones(12, 1, 5, 5), "other": torch.ones(1)}, weights)
    missing = "conv1.bias, norm.weight, norm.bias and 6 more"
    refused(
        ramda("prune", factory, "--weights", str(weights), *QUICK, *HALF, "-o", str(out)),
        1,
        f"the weights in {weights} do not fit {factory}: missing: {missing}; unexpected: other; "
        "wrong shape: conv1.weight is (12, 1, 5, 5), not (12, 1, 3, 3)",
        "pass the model that these weights were saved from",
        out,
    )


def test_an_output_directory_in_use_is_left_alone(ramda: Run, out: Path, factory: str) -> None:
    out.mkdir()
    (out / "README.md").write_text("mine")
    result = ramda("prune", factory, *QUICK, *HALF, "-o", str(out))
    assert result.exit_code == 1
    assert last_lines(result) == (
        f"error: output directory {out} is not empty\n"
        "hint: choose another with -o, or replace an earlier run's files with --overwrite"
    )
    # Not even --overwrite takes what no run wrote.
    result = ramda("prune", factory, *QUICK, *HALF, "-o", str(out), "--overwrite")
    assert result.exit_code == 1
    assert last_lines(result) == (
        f"error: output directory {out} holds files, and no earlier run\n"
        "hint: choose another with -o; --overwrite replaces nothing but an earlier run"
    )
    assert [path.name for path in out.iterdir()] == ["README.md"]


def test_an_output_that_is_a_file_is_named(ramda: Run, out: Path, factory: str) -> None:
    out.write_text("mine")
    result = ramda("prune", factory, *QUICK, *HALF, "-o", str(out))
    assert result.exit_code == 1
    assert last_lines(result) == f"error: {out} is a file\nhint: give a directory with -o"
    assert out.read_text() == "mine"


def test_a_directory_that_cannot_be_made_is_named(ramda: Run, out: Path, factory: str) -> None:
    out.write_text("a file")
    result = ramda("prune", factory, *QUICK, *HALF, "-o", str(out / "below"))
    assert result.exit_code == 1
    assert last_lines(result) == (
        f"error: cannot write {out / 'below'}: Not a directory\n"
        "hint: free some space, or choose another directory with -o"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_directory_is_named(ramda: Run, out: Path, factory: str) -> None:
    out.mkdir(mode=0o500)
    result = ramda("prune", factory, *QUICK, *HALF, "-o", str(out))
    assert result.exit_code == 1
    assert last_lines(result).startswith(f"error: cannot write {out}: Permission denied\n")


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (1, "checkpoints/last.safetensors"),
        (4, "checkpoints/state.safetensors"),
        (8, "checkpoints/best.safetensors"),
        (10, "model.safetensors"),
    ],
)
def test_a_full_disk_is_named_and_leaves_no_result(
    ramda: Run, out: Path, factory: str, monkeypatch: pytest.MonkeyPatch, write: int, name: str
) -> None:
    """Fail from the n-th safetensors file on: weights and state at the start and after each epoch.

    After the first the zero set is final, which is kept too, and after the second there is a best.
    """
    written, real = 0, module("ramda_cli.export.tensor_file").save_file

    def until_full(tensors: object, path: Path, **more: object) -> None:
        nonlocal written
        written += 1
        if written >= write:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path, **more)

    monkeypatch.setattr("ramda_cli.export.tensor_file.save_file", until_full)
    result = ramda("prune", factory, *QUICK, *HALF, "-o", str(out))
    hint = "free some space or choose another directory"
    if write < 8:  # the others are written by what writes results
        hint = "free some space, or choose another directory with -o"
    assert (result.exit_code, result.stdout) == (1, "")
    assert last_lines(result) == (
        f"error: cannot write {out / name}: No space left on device\nhint: {hint}"
    )
    assert (out / "INCOMPLETE").exists()
    assert not (out / "model.safetensors").exists()
    assert list(out.rglob("*.partial")) == []


def test_a_loss_that_is_no_number_stops_with_the_last_good_state(
    ramda: Run, out: Path, factory: str
) -> None:
    args = ["--data", "digits", "--limit", "256", "--batch-size", "32", "--no-onnx", *HALF]
    result = ramda("prune", factory, *args, "--epochs", "3", "--lr", "1e30", "-o", str(out))
    kept = out / "checkpoints/last.safetensors"
    assert (result.exit_code, result.stdout) == (1, "")
    error, hint = result.stderr.splitlines()[-2:]
    assert error == (
        "error: loss or gradient became infinite or NaN in 7 of 8 steps at step 8 of 24, in epoch 1"
    )
    assert hint == f"hint: lower --lr (now 1e+30); the weights of the last epoch are in {kept}"
    assert "step 0, with step sizes times 0.25" in result.stderr
    assert (out / "INCOMPLETE").exists()
    assert not (out / "model.safetensors").exists()
    assert all(t.isfinite().all() for t in load_file(kept).values())
    again = out.with_name("again")
    result = ramda("prune", factory, "--weights", str(kept), *QUICK, *HALF, "-o", str(again))
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("stage", ["removal", "safetensors", "onnx"])
def test_a_failed_proof_is_exit_3_and_no_model(
    ramda: Run, out: Path, factory: str, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def spoiled(result: Any) -> Any:
        with torch.no_grad():
            (result[0] if isinstance(result, tuple) else result).fc.bias[3] += 1e-3
        return result

    where = {
        "removal": ("ramda_cli.pipeline.cutting", "remove", "smaller model against trained model"),
        "safetensors": ("ramda_cli.pipeline.files", "load", "model.safetensors loaded afresh"),
        "onnx": ("ramda_cli.pipeline.files", "OnnxModel", "model.onnx in ONNX Runtime"),
    }
    name, function, said = where[stage]
    real = getattr(module(name), function)
    if stage == "onnx":

        class Fake:
            def __init__(self, path: Path) -> None:
                self._run = real(path)

            def on(self, inputs: Any) -> Any:
                return [output + 0.1 for output in self._run.on(inputs)]

        fake: Any = Fake

    else:

        def fake(*args: Any, **more: Any) -> Any:  # type: ignore[misc]
            return spoiled(real(*args, **more))

    monkeypatch.setattr(module(name), function, fake)
    args = [*QUICK, "--onnx"] if stage == "onnx" else QUICK
    result = ramda("prune", factory, *args, *HALF, "-o", str(out))
    assert (result.exit_code, result.stdout) == (3, "")
    error, hint = result.stderr.splitlines()[-2:]
    assert error.startswith(f"error: {said} differs in float")
    assert "more than the tolerance" in error
    assert hint == "hint: no result was kept; please report the model, this should not happen"
    left = sorted(path.name for path in out.iterdir())
    assert left == ["INCOMPLETE", "checkpoints", "config.yaml", "metrics.jsonl", "run.log"]


# In a process of its own


@pytest.mark.parametrize(
    ("more", "error", "hint"),
    [
        (
            [],
            "cannot get the pretrained weights of resnet50: the hub cannot be reached "
            "(HF_HUB_OFFLINE=1)",
            "go online, set HF_HOME to a cache that holds timm/resnet50.a1_in1k, "
            "pass --weights FILE.safetensors, or --no-pretrained",
        ),
        (
            ["--no-pretrained"],
            "imagenet is not on this machine",
            "pass --data-dir DIR or set IMAGENET_DIR to a directory with train/ and val/, "
            "or set HF_TOKEN to an account that may read ILSVRC/imagenet-1k",
        ),
    ],
)
def test_resnet50_on_imagenet_without_either(
    tmp_path: Path, out: Path, more: list[str], error: str, hint: str
) -> None:
    """The model comes first: its weights are missed before the data is."""
    args = ["prune", "resnet50", "--data", "imagenet", *HALF, *more, "-o", out]
    done = subprocess.run(
        command(*args), cwd=tmp_path, env=environment(tmp_path),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "start: loading libraries",
        "load: resnet50",
        f"error: {error}",
        f"hint: {hint}",
    ]
    assert not out.exists()


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_a_signal_is_130_and_the_run_can_go_on(
    tmp_path: Path, out: Path, factory: str, ramda: Run, number: signal.Signals
) -> None:
    args = ["prune", factory, "--data", "digits", "--batch-size", "32", "--epochs", "40"]
    args += ["--device", "cpu", "--no-onnx", "--no-bench", *HALF, "-o", str(out)]
    process = subprocess.Popen(
        command(*args), cwd=tmp_path, env=environment(tmp_path),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A test run in the background inherits an ignored SIGINT, which is not a user's Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        log, deadline = out / "metrics.jsonl", time.monotonic() + 120
        while not log.exists() or log.read_text().count("\n") < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, stdout) == (130, "")
    assert stderr.splitlines()[-3:] == [
        f"note: {number.name}: stopping after this step; once more stops at once",
        f"error: interrupted; {out} is marked INCOMPLETE and holds no result",
        f"hint: `ramda prune --resume -o {out}` goes on from the last checkpoint",
    ]
    assert (out / "INCOMPLETE").exists()
    assert not (out / "model.safetensors").exists()
    result = ramda("prune", "--resume", "-o", str(out))
    assert result.exit_code == 0, result.stderr
    assert "note: goes on from step " in result.stderr
    assert (out / "model.safetensors").exists()
