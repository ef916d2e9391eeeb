import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ramda_cli.errors import FileFormatError, OutputError
from ramda_cli.export import load, read_tensors, save, write_tensors
from ramda_cli.models.loaded import ModelSource
from ramda_cli.surgery import GraphModel
from tests.export.helpers import CASES, Plain, document_of, plain, resnet, shrunk
from tests.structure.exactness import assert_equal, call

LOAD_ALONE = """
import sys, torch
torch.set_num_threads(1)
from ramda_cli import load
path, inputs, outputs = sys.argv[1:]
from safetensors.torch import load_file, save_file
save_file({"y": load(path)(load_file(inputs)["x"]).detach()}, outputs)
assert not any(name.startswith("tests") for name in sys.modules)
"""


@pytest.fixture(autouse=True)
def no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a pickle was read or written")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(torch, "save", refuse)
    for module in ("pickle", "_pickle"):
        for function in ("load", "loads", "Unpickler"):
            monkeypatch.setattr(f"{module}.{function}", refuse)


@pytest.mark.parametrize("name", CASES)
def test_what_is_loaded_computes_what_was_saved(name: str, tmp_path: Path) -> None:
    build, layout = CASES[name]
    torch.manual_seed(0)
    case = build()
    path = tmp_path / "model.safetensors"
    assert save(case.smaller, case.plan, path) == layout

    loaded = load(path)
    assert not loaded.training
    assert isinstance(loaded, GraphModel) == (layout == "graph")
    if layout == "native":
        assert type(loaded) is type(case.model)
    expected = {k: t.shape for k, t in case.smaller.named_parameters()}
    assert {k: t.shape for k, t in loaded.named_parameters()} == expected
    for example in (case.example, bigger(case.example)):
        assert_equal(call(case.smaller.eval(), example), call(loaded, example), tolerance=1e-5)
        wide = widened(example)
        assert_equal(call(case.model.double().eval(), wide), call(loaded.double(), wide))
        loaded.float()
        case.model.float()


def bigger(example: object) -> object:
    if isinstance(example, dict):
        return {key: torch.cat([value, value, value]) for key, value in example.items()}
    return torch.randn(5, *example.shape[1:])  # type: ignore[attr-defined]


def widened(example: object) -> object:
    if isinstance(example, dict):
        return {k: v.double() if v.is_floating_point() else v for k, v in example.items()}
    return example.double()  # type: ignore[attr-defined]


def test_a_file_of_an_own_class_loads_where_nobody_knows_the_class(tmp_path: Path) -> None:
    case = plain()
    path, inputs, outputs = (tmp_path / f"{n}.safetensors" for n in ("model", "in", "out"))
    save(case.smaller, case.plan, path)
    write_tensors({"x": case.example}, inputs, metadata={})
    command = [sys.executable, "-c", LOAD_ALONE, *map(str, (path, inputs, outputs))]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_equal(case.smaller.eval()(case.example), load_file(outputs)["y"], tolerance=1e-5)


def test_tied_tensors_are_stored_once_and_stay_tied(tmp_path: Path) -> None:
    case = plain()
    path = tmp_path / "model.safetensors"
    save(case.smaller, case.plan, path)
    stored = [name for name in load_file(path) if name.endswith(("encode.weight", "decode.weight"))]
    assert stored == ["encode.weight"]
    loaded = load(path)
    assert_equal(case.smaller.eval()(case.example), loaded(case.example), tolerance=1e-5)
    with torch.no_grad():
        loaded.get_parameter("encode.weight").zero_()
    assert torch.equal(loaded(case.example), (loaded.get_parameter("fc.bias") * 0.5).expand(2, 5))


def test_tied_tensors_of_a_native_file_are_one_parameter_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No timm model ties weights that can shrink: let one name stand for such a class.
    monkeypatch.setattr("ramda_cli.models.building.build_timm", lambda *_: Plain())
    case = shrunk(Plain(), torch.randn(2, 3, 8, 8), source=ModelSource("timm", "tied"))
    path = tmp_path / "model.safetensors"
    assert save(case.smaller, case.plan, path) == "native"
    assert document_of(path)["aliases"] == {"decode.weight": "encode.weight"}
    assert "decode.weight" not in load_file(path)
    loaded = load(path)
    assert isinstance(loaded, Plain)
    assert loaded.decode.weight is loaded.encode.weight
    assert_equal(case.smaller.eval()(case.example), loaded(case.example), tolerance=1e-5)


def test_buffers_stay_buffers_and_parameters_trainable(tmp_path: Path) -> None:
    case = plain()
    path = tmp_path / "model.safetensors"
    save(case.smaller, case.plan, path)
    loaded = load(path)
    buffers = {"norm.running_mean", "norm.running_var", "scale"}
    assert set(dict(loaded.named_buffers())) == buffers
    loaded(case.example).sum().backward()
    assert all(p.grad is not None for p in loaded.parameters())


def test_a_model_trained_on_after_the_removal_is_saved_as_it_is(tmp_path: Path) -> None:
    case = resnet()
    with torch.no_grad():
        for parameter in case.smaller.parameters():
            parameter += 0.01
    path = tmp_path / "model.safetensors"
    save(case.smaller, case.plan, path)
    assert_equal(case.smaller.eval()(case.example), load(path)(case.example), tolerance=1e-5)


def test_views_of_one_memory_are_stored_apart(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    tensors = {"a": whole, "b": whole[:3], "c": whole.view(2, 3).t(), "d": whole}
    write_tensors(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    stored = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(stored[name], tensor) for name, tensor in tensors.items())


def test_the_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    path, other = tmp_path / "model.safetensors", tmp_path / "other"
    write_tensors({"x": torch.ones(1)}, path, metadata={})
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_details_and_report_are_kept(tmp_path: Path) -> None:
    case = plain()
    path = tmp_path / "model.safetensors"
    save(case.smaller, case.plan, path, details={"labels": ["a"]}, report={"schema": 1})
    document = document_of(path)
    assert document["details"] == {"labels": ["a"]}
    assert document["report"] == {"schema": 1}
    removed = document["plan"]["removed"]["stem"]
    assert [i for start, stop in removed for i in range(start, stop)] == case.plan.removed["stem"]
    assert document["source"] is None


@pytest.mark.parametrize("where", ["save_file", "os.replace"])
def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    case = plain()
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"earlier")

    def full(tensors: object, target: object = None, **_: object) -> None:
        if where == "save_file":
            Path(str(target)).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"ramda_cli.export.tensor_file.{where}", full)
    with pytest.raises(OutputError) as caught:
        save(case.smaller, case.plan, path)
    assert str(caught.value) == f"cannot write {path}: No space left on device"
    assert caught.value.hint == "free some space or choose another directory"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]
    assert path.read_bytes() == b"earlier"


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    case = plain()
    with pytest.raises(OutputError, match="No such file or directory"):
        save(case.smaller, case.plan, tmp_path / "no" / "model.safetensors")


def test_a_graph_trains_as_its_batch_norm_did(tmp_path: Path) -> None:
    model = nn.Sequential(Plain(), nn.Dropout(0.5))
    case = shrunk(model, torch.randn(2, 3, 8, 8))
    save(case.smaller, case.plan, tmp_path / "m.safetensors")
    loaded = load(tmp_path / "m.safetensors")
    assert isinstance(loaded, GraphModel)
    before = {name: buffer.clone() for name, buffer in loaded.named_buffers()}
    expected = loaded(case.example)
    # BatchNorm uses the batch in training, and its statistics follow; dropout is gone.
    assert not torch.allclose(loaded.train()(case.example), expected)
    moved = {name for name, buffer in loaded.named_buffers() if (buffer != before[name]).any()}
    assert {name.rpartition(".")[2] for name in moved} == {"running_mean", "running_var"}
    for name, buffer in loaded.named_buffers():
        buffer.copy_(before[name])
    assert torch.equal(loaded.eval()(case.example), expected)


def test_a_graph_takes_inputs_of_any_memory_format(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(6 * 16, 4)
    )
    case = shrunk(model, torch.randn(2, 3, 8, 8))
    save(case.smaller, case.plan, tmp_path / "m.safetensors")
    loaded = load(tmp_path / "m.safetensors")
    assert isinstance(loaded, GraphModel)
    strided = case.example.to(memory_format=torch.channels_last)
    assert_equal(loaded(case.example), loaded(strided), tolerance=1e-5)
    faster = loaded.to(memory_format=torch.channels_last)
    assert_equal(case.smaller.eval()(case.example), faster(strided), tolerance=1e-5)


def test_reading_tensors_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="cannot be loaded"):
        read_tensors(tmp_path / "missing.safetensors")
