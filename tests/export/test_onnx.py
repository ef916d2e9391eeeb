import errno
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from ramda_cli.errors import OutputError
from ramda_cli.export import export_onnx, open_onnx
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
    run = open_onnx(tmp_path / "model.onnx")
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
    run = open_onnx(tmp_path / "m.onnx")
    x = torch.randn(3, 6)
    torch.testing.assert_close(run([x, ids])[0], model(x, ids).detach())


def test_large_weights_lie_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramda_cli.export.onnx._MAX_EMBEDDED_BYTES", 100)
    model = nn.Linear(64, 64).eval()
    export_onnx(model, tmp_path / "m.onnx", (torch.randn(2, 64),))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    x = torch.randn(3, 64)
    torch.testing.assert_close(open_onnx(tmp_path / "m.onnx")([x])[0], model(x).detach())


def test_the_exporter_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export_onnx(nn.Linear(2, 2).eval(), tmp_path / "m.onnx", (torch.randn(2, 2),))
    assert capfd.readouterr() == ("", "")


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        (tmp_path / "m.onnx").write_bytes(b"half")
        (tmp_path / "m.onnx.data").write_bytes(b"half")
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
            open_onnx(path)
        path.unlink(missing_ok=True)
    export_onnx(nn.Linear(2, 2).eval(), path, (torch.randn(2, 2),))
    onnx.checker.check_model(path)
    with pytest.raises(OutputError, match=f"^cannot run {path}: "):
        open_onnx(path)([torch.randn(2, 3)])
