import json
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn
from typer.testing import CliRunner, Result

from ramda_cli.cli.app import app
from ramda_cli.errors import EquivalenceError, FileFormatError, ModelError, OutputError
from ramda_cli.export import OnnxModel, TorchExported, load, save
from ramda_cli.pipeline import ExportSettings, export, verify
from tests.export.helpers import Plain, plain, resnet, rewrite, several, shrunk

ONNX = ExportSettings(format="onnx")
TORCH = ExportSettings(format="torch-export")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "model.safetensors"
    case = resnet()
    save(case.smaller, case.plan, path)
    return path


@pytest.mark.parametrize(("settings", "name"), [(ONNX, "m.onnx"), (TORCH, "m.pt2")])
def test_an_export_takes_any_batch_and_is_found_by_verify(
    file: Path, tmp_path: Path, settings: ExportSettings, name: str
) -> None:
    result: Any = export(file, tmp_path / name, settings)
    assert [check["passed"] for check in result["checks"]] == [True] * 3
    assert result["file"] == str(tmp_path / name)
    assert result["bytes"] == (tmp_path / name).stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == [name]
    open_ = OnnxModel if name == "m.onnx" else TorchExported
    x = torch.randn(5, 3, 64, 64)
    (actual,) = open_(tmp_path / name).on(x)
    torch.testing.assert_close(actual, load(file)(x).detach(), rtol=1e-4, atol=1e-5)

    (tmp_path / "model.safetensors").write_bytes(file.read_bytes())
    checked: Any = verify(tmp_path, trust_pt2=True)
    assert sum(name in check["name"] for check in checked["checks"]) == 3
    assert checked["passed"]


@pytest.mark.parametrize("settings", [ONNX, TORCH])
def test_the_batch_can_be_fixed(file: Path, tmp_path: Path, settings: ExportSettings) -> None:
    chosen = ExportSettings(format=settings.format, batch=1)
    result: Any = export(file, tmp_path / "m", chosen)
    assert len(result["checks"]) == 1
    open_ = OnnxModel if settings is ONNX else TorchExported
    assert open_(tmp_path / "m").batch == 1


def test_a_pt2_file_is_loaded_only_when_asked(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.safetensors").write_bytes(file.read_bytes())
    (tmp_path / "m.pt2").write_bytes(b"anything")

    def refuse(*_: object) -> None:
        raise AssertionError("a .pt2 file was loaded")

    monkeypatch.setattr(torch.export, "load", refuse)
    result: Any = verify(tmp_path)
    assert "m.pt2 was not loaded, which may unpickle" in result["notes"][1]
    monkeypatch.undo()
    with pytest.raises(OutputError, match="cannot load"):
        verify(tmp_path, trust_pt2=True)


@pytest.mark.parametrize("settings", [ONNX, TORCH])
def test_keyword_inputs_of_a_graph(tmp_path: Path, settings: ExportSettings) -> None:
    case = several()
    save(case.smaller, case.plan, tmp_path / "m.safetensors")
    result: Any = export(tmp_path / "m.safetensors", tmp_path / "m", settings)
    assert [check["passed"] for check in result["checks"]] == [True] * 3


def test_a_model_in_half_precision_is_exported_in_fp32(tmp_path: Path) -> None:
    case = shrunk(Plain().bfloat16(), torch.randn(2, 3, 8, 8, dtype=torch.bfloat16))
    save(case.smaller, case.plan, tmp_path / "m.safetensors")
    for settings in (ONNX, TORCH):
        result: Any = export(tmp_path / "m.safetensors", tmp_path / settings.format, settings)
        assert all(check["passed"] for check in result["checks"])


class Other(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3)).repeat(1, 3)[:, :7]


@pytest.mark.parametrize("settings", [ONNX, TORCH])
def test_what_computes_something_else_is_not_kept(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: ExportSettings
) -> None:
    writer = "export_onnx" if settings is ONNX else "export_torch"
    module = sys.modules["ramda_cli.pipeline.formats"]
    real = getattr(module, writer)
    monkeypatch.setattr(module, writer, lambda model, *a, **k: real(Other(), *a, **k))
    kept = tmp_path / "m"
    kept.write_bytes(b"earlier")
    with pytest.raises(EquivalenceError, match=r"^m in float32: differs by "):
        export(file, kept, settings, overwrite=True)
    assert kept.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [kept]


def test_a_timm_directory_is_loaded_by_timm_alone(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "dense"
    result: Any = export(file, target, ExportSettings(format="timm", layout="dense"))
    assert result["loads_with"] == f'timm.create_model("local-dir:{target}", pretrained=True)'
    assert [check["name"] for check in result["checks"]] == [
        "dense, loaded by timm alone, in float64"
    ]
    assert result["bytes"] == sum(path.stat().st_size for path in target.iterdir())
    x = torch.randn(3, 3, 64, 64)
    plain_model = timm.create_model(f"local-dir:{target}", pretrained=True).eval()
    torch.testing.assert_close(plain_model(x), load(file)(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(OutputError, match="is there already"):
        export(file, target, ExportSettings(format="timm", layout="dense"))


def test_a_timm_directory_says_how_its_images_look(tmp_path: Path) -> None:
    case = resnet()
    preprocessing = {
        "input_size": [3, 64, 64], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6],
        "interpolation": "bilinear", "crop_pct": 0.5,
    }  # fmt: skip
    details = {"labels": list("abcdefg"), "preprocessing": preprocessing}
    save(case.smaller, case.plan, tmp_path / "m.safetensors", details=details)
    settings = ExportSettings(format="timm", layout="dense")
    export(tmp_path / "m.safetensors", tmp_path / "dense", settings)
    config = json.loads((tmp_path / "dense" / "config.json").read_text())
    assert config["label_names"] == list("abcdefg")
    assert {key: config["pretrained_cfg"][key] for key in preprocessing} == preprocessing


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("plan", None, "its plan does not fit"),
        ("plan", {"kept": []}, "its plan does not fit"),
        ("details", {"preprocessing": {"mean": 3}}, "does not say what its inputs must look like"),
    ],
)
def test_a_plan_and_details_are_not_believed(
    file: Path, tmp_path: Path, key: str, value: Any, message: str
) -> None:
    changed = rewrite(file, document=lambda document: document.update({key: value}))
    with pytest.raises(FileFormatError, match=message):
        export(changed, tmp_path / "dense", ExportSettings(format="timm", layout="dense"))
    assert list(tmp_path.iterdir()) == []


def test_smaller_tensors_that_timm_does_not_take_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"only ramda_cli\.load loads the smaller tensors"):
        export(file, tmp_path / "smaller", ExportSettings(format="timm"))
    with pytest.raises(ModelError, match="is of no class that transformers has"):
        export(file, tmp_path / "smaller", ExportSettings(format="hf"))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_computes_something_else_is_not_kept(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["ramda_cli.pipeline.formats"]
    real = module.dense_module

    def other(*args: Any) -> nn.Module:
        model = real(*args)
        with torch.no_grad():
            model.fc.weight.mul_(1 + 1e-5)
        return model

    monkeypatch.setattr(module, "dense_module", other)
    with pytest.raises(EquivalenceError, match="loaded by timm alone, in float64: differs by"):
        export(file, tmp_path / "dense", ExportSettings(format="timm", layout="dense"))
    assert list(tmp_path.iterdir()) == []


def test_the_model_itself_is_not_replaced(tmp_path: Path, file: Path) -> None:
    copied = tmp_path / "model.safetensors"
    copied.write_bytes(file.read_bytes())
    for output, settings in ((copied, ONNX), (tmp_path, ExportSettings(format="timm"))):
        with pytest.raises(OutputError, match="would replace the model itself"):
            export(copied, output, settings, overwrite=True)
    assert copied.read_bytes() == file.read_bytes()


def test_a_file_that_lies_about_itself_is_not_exported(file: Path, tmp_path: Path) -> None:
    changed = rewrite(file, tensors=lambda t: t["fc.weight"].mul_(1.01))
    with pytest.raises(FileFormatError, match="does not give the outputs that it holds"):
        export(changed, tmp_path / "m.onnx", ONNX)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_there_is_kept(file: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"earlier")
    with pytest.raises(OutputError, match="is there already"):
        export(file, tmp_path / "m.onnx", ONNX)
    with pytest.raises(OutputError, match="is a directory"):
        export(file, tmp_path, ONNX)
    with pytest.raises(OutputError, match="has no directory"):
        export(file, tmp_path / "no" / "m.onnx", ONNX)
    assert (tmp_path / "m.onnx").read_bytes() == b"earlier"


def test_an_error_names_the_output(tmp_path: Path) -> None:
    case = plain()
    save(case.smaller, case.plan, tmp_path / "m.safetensors")
    target = tmp_path / "m.onnx"
    with pytest.raises(OutputError) as caught:
        export(tmp_path / "m.safetensors", target, ExportSettings(format="onnx", opset=99))
    assert str(caught.value).startswith(f"cannot write {target}: ")


def test_the_command(file: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["export", str(file), *arguments])

    target = str(tmp_path / "m.onnx")
    done = run("--format", "onnx", "--fp16", "--opset", "18", "-o", target, "--json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["checks"][0]["name"] == "m.onnx in float16"
    assert result["loads_with"] == f'onnxruntime.InferenceSession("{target}")'
    for arguments, message in (
        (("--format", "torch-export", "--fp16"), "--fp16 is for --format onnx, not torch-export"),
        (("--format", "onnx", "--batch", "many"), "--batch is dynamic or a whole number"),
    ):
        done = run(*arguments, "-o", target)
        assert done.exit_code == 2
        assert message in done.stderr
