import errno
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from ramda_cli.errors import OutputError
from ramda_cli.export import OnnxModel, export_onnx, load, save
from ramda_cli.structure.running import outputs_of
from tests.export.helpers import CASES


class Counted(nn.Module):
    """Takes images and integer ids."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = nn.Embedding(9, 4)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self.fc(x) + self.ids(ids)


@pytest.mark.parametrize("name", ["resnet", "vit", "own class"])
def test_onnx_agrees_with_torch_at_any_batch_size(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    case = CASES[name][0]()
    model = case.smaller.train()
    modes = [module.training for module in model.modules()]
    export_onnx(model, tmp_path / "model.onnx", (case.example,))
    assert [module.training for module in model.modules()] == modes
    run = OnnxModel(tmp_path / "model.onnx")
    for batch in (1, 2, 7):
        images = torch.randn(batch, *case.example.shape[1:])
        with torch.no_grad():
            expected = model.eval()(images)
        (actual,) = run([images])
        assert actual.shape == expected.shape
        assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_integer_inputs_stay_integers(tmp_path: Path) -> None:
    model, ids = Counted().eval(), torch.tensor([1, 8, 4])
    export_onnx(model, tmp_path / "m.onnx", (torch.randn(2, 6), ids[:2]))
    run = OnnxModel(tmp_path / "m.onnx")
    x = torch.randn(3, 6)
    torch.testing.assert_close(run([x, ids])[0], model(x, ids).detach())


def test_keyword_inputs_of_a_graph_keep_their_names_and_a_free_batch(tmp_path: Path) -> None:
    case = CASES["several inputs"][0]()
    save(case.smaller, case.plan, tmp_path / "model.safetensors")
    model = load(tmp_path / "model.safetensors")
    export_onnx(model, tmp_path / "m.onnx", case.example)
    run = OnnxModel(tmp_path / "m.onnx")
    assert run.batch is None
    inputs = {"ids": torch.tensor([0, 8, 3]), "x": torch.randn(3, 6)}
    for actual, expected in zip(run.on(inputs), outputs_of(model, inputs), strict=True):
        torch.testing.assert_close(actual, expected)


def test_sizes_can_be_fixed_and_the_opset_chosen(tmp_path: Path) -> None:
    model, x = nn.Linear(6, 4).eval(), torch.randn(1, 6)
    export_onnx(model, tmp_path / "m.onnx", (x,), fixed=True, opset=18)
    run = OnnxModel(tmp_path / "m.onnx")
    assert (run.batch, run.half) == (1, False)
    torch.testing.assert_close(run([x])[0], model(x).detach())
    assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == 18
    with pytest.raises(OutputError, match="cannot run"):
        run([torch.randn(2, 6)])


def test_an_opset_that_torch_does_not_write_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"has no exporter for opset 99$"):
        export_onnx(nn.Linear(2, 2), tmp_path / "m.onnx", (torch.randn(2, 2),), opset=99)
    assert list(tmp_path.iterdir()) == []


def test_half_precision_halves_the_weights_and_keeps_fp32_around_them(tmp_path: Path) -> None:
    model, x = nn.Linear(64, 64).eval(), torch.randn(3, 64)
    for half in (False, True):
        export_onnx(model, tmp_path / f"{half}.onnx", (x,), half=half)
    run = OnnxModel(tmp_path / "True.onnx")
    assert run.half
    (actual,) = run([x])
    assert actual.dtype == torch.float32
    difference = (actual - model(x).detach()).abs().max()
    assert 0 < difference <= 1e-2
    sizes = [(tmp_path / f"{half}.onnx").stat().st_size for half in (False, True)]
    assert sizes[1] < 0.6 * sizes[0]


def test_nothing_of_this_machine_is_in_the_file(tmp_path: Path) -> None:
    export_onnx(CASES["vit"][0]().smaller, tmp_path / "m.onnx", torch.randn(2, 3, 32, 32))
    content = (tmp_path / "m.onnx").read_bytes()
    assert b"site-packages" not in content
    assert b"stack_trace" not in content


def test_large_weights_lie_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramda_cli.export.onnx._MAX_EMBEDDED_BYTES", 100)
    model = nn.Linear(64, 64).eval()
    export_onnx(model, tmp_path / "m.onnx", (torch.randn(2, 64),))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    x = torch.randn(3, 64)
    torch.testing.assert_close(OnnxModel(tmp_path / "m.onnx")([x])[0], model(x).detach())


def test_the_exporter_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export_onnx(nn.Linear(2, 2).eval(), tmp_path / "m.onnx", (torch.randn(2, 2),))
    assert capfd.readouterr() == ("", "")


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object, path: Path, **__: object) -> None:
        path.write_bytes(b"half")
        path.with_name("m.onnx.data").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", full)
    with pytest.raises(OutputError, match="No space left on device") as caught:
        export_onnx(nn.Linear(2, 2).eval(), tmp_path / "m.onnx", (torch.randn(2, 2),))
    assert caught.value.hint == "skip it with --no-onnx"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_onnx_runtime_does_not_take_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"no protobuf")
    for _ in range(2):
        with pytest.raises(OutputError, match=f"^cannot open {path}: "):
            OnnxModel(path)
        path.unlink(missing_ok=True)
    export_onnx(nn.Linear(2, 2).eval(), path, (torch.randn(2, 2),))
    onnx.checker.check_model(path)
    with pytest.raises(OutputError, match=f"^cannot run {path}: "):
        OnnxModel(path)([torch.randn(2, 3)])
