import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from ramda_cli.cli.app import app
from ramda_cli.errors import FileFormatError, OutputError
from ramda_cli.export import export_onnx, load, save
from ramda_cli.pipeline import verify
from ramda_cli.pipeline.workspace import Workspace
from ramda_cli.report.plain import build_report
from tests.export.helpers import plain, resnet, rewrite, several
from tests.report.sample import REPORT


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as a run leaves it."""
    workspace = Workspace(tmp_path_factory.mktemp("whole") / "out")
    workspace.start()
    case = resnet()
    save(case.smaller, case.plan, workspace.path("model.safetensors"))
    export_onnx(case.smaller, workspace.path("model.onnx"), case.example)
    workspace.write_text("config.yaml", "seed: 0\n")
    report = replace(REPORT, files=workspace.files())
    workspace.write_text("report.json", json.dumps(build_report(report)))
    workspace.finish()
    return workspace.directory


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "copied")


def outcomes(path: Path) -> dict[str, bool]:
    """Return the verdicts by name."""
    result: Any = verify(path)
    found = {check["name"]: check["passed"] for check in result["checks"]}
    assert result["passed"] == all(found.values())
    return found


def test_a_copy_passes_line_by_line(copied: Path) -> None:
    result: Any = verify(copied)
    assert {check["name"]: check["passed"] for check in result["checks"]} == dict.fromkeys(
        [
            "header",
            "model.safetensors SHA-256",
            "model.onnx SHA-256",
            "config.yaml SHA-256",
            "model.safetensors in float64",
            "model.safetensors in float32",
            "model.onnx in float32",
            "model.onnx, batch of 1, in float32",
            "model.onnx, batch of 3, in float32",
        ],
        True,
    )
    assert result["passed"] is True
    assert result["notes"] == []


def test_one_file_is_checked_alone(copied: Path) -> None:
    result: Any = verify(copied / "model.safetensors")
    assert len(result["checks"]) == 3
    assert result["passed"] is True
    assert "one file alone was checked" in result["notes"][0]


def test_a_directory_without_a_report_is_said(copied: Path) -> None:
    (copied / "report.json").unlink()
    result: Any = verify(copied)
    assert len(result["checks"]) == 6
    assert result["notes"] == [f"{copied} has no report.json, so no hash was compared"]


def grown(directory: Path) -> None:
    with (directory / "config.yaml").open("a") as file:
        file.write("\n")


@pytest.mark.parametrize(
    ("damage", "failed"),
    [
        (grown, {"config.yaml SHA-256"}),
        (lambda d: (d / "config.yaml").write_text("seed: 1\n"), {"config.yaml SHA-256"}),
        (lambda d: (d / "config.yaml").unlink(), {"config.yaml SHA-256"}),
    ],
)
def test_a_file_that_changed_fails(
    copied: Path, damage: Callable[[Path], object], failed: set[str]
) -> None:
    damage(copied)
    assert {name for name, passed in outcomes(copied).items() if not passed} == failed


def test_other_weights_fail_in_the_model_and_not_in_its_export(copied: Path) -> None:
    path = copied / "model.safetensors"
    changed = rewrite(path, tensors=lambda t: t["fc.weight"].mul_(1 + 1e-6))
    changed.replace(path)
    found = outcomes(copied)
    assert not found["model.safetensors SHA-256"]
    assert not found["model.safetensors in float64"]
    assert found["model.safetensors in float32"]  # it is below the rounding
    assert found["model.onnx in float32"]


def test_another_export_fails(copied: Path) -> None:
    model = load(copied / "model.safetensors")
    with torch.no_grad():
        model.get_parameter("fc.weight").mul_(1.01)
    export_onnx(model, copied / "other.onnx", torch.randn(2, 3, 64, 64))
    found = outcomes(copied)
    assert found["model.onnx in float32"]
    assert not found["other.onnx in float32"]


def test_an_export_for_one_batch_size_is_compared_at_it(copied: Path) -> None:
    model = load(copied / "model.safetensors")
    export_onnx(model, copied / "three.onnx", torch.randn(3, 3, 64, 64), fixed=True)
    assert outcomes(copied)["three.onnx, batch of 3, in float32"]


def test_half_precision_has_its_own_tolerance(copied: Path) -> None:
    model = load(copied / "model.safetensors")
    export_onnx(model, copied / "half.onnx", torch.randn(2, 3, 64, 64), half=True)
    result: Any = verify(copied)
    (half,) = (check for check in result["checks"] if check["name"] == "half.onnx in float16")
    assert half["passed"]


@pytest.mark.parametrize(
    ("bound", "value"),
    [("LARGEST_BATCH", 2), pytest.param("MOST_DRAWN", 30_000, marks=pytest.mark.slow)],
)
def test_a_batch_that_is_too_large_is_not_tried(
    copied: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    model = load(copied / "model.safetensors")
    export_onnx(model, copied / "three.onnx", torch.randn(3, 3, 64, 64), fixed=True)
    monkeypatch.setattr(f"ramda_cli.pipeline.probing.{bound}", value)
    with pytest.raises(FileFormatError, match="on a batch of 3 cannot be checked"):
        verify(copied)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "report.json cannot be read: "),
        ("[" * 100_000, "report.json cannot be read: "),
        ("{}", "report"),
    ],
)
def test_a_broken_report_is_refused(copied: Path, text: str, message: str) -> None:
    (copied / "report.json").write_text(text)
    with pytest.raises(FileFormatError, match=message):
        verify(copied)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "../.."])
def test_a_report_cannot_name_files_elsewhere(copied: Path, name: str) -> None:
    document = json.loads((copied / "report.json").read_text())
    document["files"][0]["name"] = name
    (copied / "report.json").write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match="which is not a file beside it"):
        verify(copied)


def test_what_cannot_be_checked_is_an_error(copied: Path, tmp_path: Path) -> None:
    (copied / "model.onnx").write_bytes(b"no protobuf")
    with pytest.raises(OutputError, match="cannot open"):
        verify(copied)
    case = several()
    save(case.smaller, case.plan, tmp_path / "m.safetensors")
    old = rewrite(tmp_path / "m.safetensors", document=lambda d: d.pop("probe"))
    with pytest.raises(FileFormatError, match="holds no probe"):
        verify(old)
    (copied / "INCOMPLETE").touch()
    with pytest.raises(FileFormatError, match="has not finished"):
        verify(copied)


def test_a_graph_that_does_not_run_is_an_error(tmp_path: Path) -> None:
    case = plain()
    save(case.smaller, case.plan, tmp_path / "m.safetensors")

    def shrink(tensors: dict[str, torch.Tensor]) -> None:
        tensors["fc.weight"] = tensors["fc.weight"][:, :-1].contiguous()

    with pytest.raises(FileFormatError, match="does not run on its probe"):
        verify(rewrite(tmp_path / "m.safetensors", tensors=shrink))


def test_the_command_prints_the_lines_and_exits_3(copied: Path) -> None:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["verify", *arguments])

    done = run(str(copied), "--json", "--junit", str(copied / "verify.xml"))
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["passed"] is True
    assert 'classname="ramda.verify"' in (copied / "verify.xml").read_text()
    grown(copied)
    done = run(str(copied))
    assert done.exit_code == 3
    assert [line.split()[:2] for line in done.stdout.splitlines()][:4] == [
        ["passed", "header"],
        ["passed", "model.safetensors"],
        ["passed", "model.onnx"],
        ["FAILED", "config.yaml"],
    ]
    assert "error: config.yaml SHA-256: has 9 bytes, not 8\n" in done.stderr


def test_a_listed_file_that_cannot_be_read_is_a_failed_line(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(hashlib, "file_digest", broken)
    checks: Any = verify(copied)["checks"]
    failed = {check["name"]: check["text"] for check in checks if not check["passed"]}
    assert failed["model.safetensors SHA-256"] == "cannot be read: Input/output error"
