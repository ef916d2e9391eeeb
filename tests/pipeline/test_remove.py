import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import prune

from ramda_cli.config.schema import DataConfig, OutputConfig, RemoveConfig
from ramda_cli.errors import DataError, EquivalenceError, OutputError, RamdaError, StructureError
from ramda_cli.export import load
from ramda_cli.file_header import read_header
from ramda_cli.models.digits_resnet import DigitsResNet
from ramda_cli.models.packaged import pretrained_file
from ramda_cli.observer import SilentObserver
from ramda_cli.pipeline import remove
from ramda_cli.report.plain import parse_report
from ramda_cli.surgery import Folding

DIGITS = DataConfig(name="digits")


def pruned(*, dim: int = 0, amount: float = 0.25) -> nn.Module:
    """Return the packaged model with masked inner convolutions."""
    model = DigitsResNet()
    model.load_state_dict(load_file(pretrained_file("digits-resnet")))
    for stage in model.stages:
        layer = stage.conv1 if dim == 0 else stage.conv2
        prune.ln_structured(layer, "weight", amount=amount, n=2, dim=dim)
    return model.eval()


def write(path: Path, model: nn.Module) -> Path:
    save_file({name: tensor.clone() for name, tensor in model.state_dict().items()}, path)
    return path


def settings(checkpoint: Path, output: Path, **more: Any) -> RemoveConfig:
    given = {"model": "digits-resnet", **more}
    overwrite = given.pop("overwrite", False)
    onnx = given.pop("onnx", False)
    files = OutputConfig(directory=output, onnx=onnx, overwrite=overwrite)
    return RemoveConfig(checkpoint=checkpoint, output=files, **given)


def run(checkpoint: Path, output: Path, **more: Any) -> dict[str, Any]:
    return remove(settings(checkpoint, output, **more), SilentObserver())


def refused(kind: type[RamdaError], checkpoint: Path, output: Path, **more: Any) -> RamdaError:
    with pytest.raises(kind) as caught:
        run(checkpoint, output, **more)
    assert not (output / "model.safetensors").exists()
    return caught.value


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("dim", [0, 1])
def test_a_masked_checkpoint_becomes_smaller_and_stays_the_same(
    tmp_path: Path, dim: int, images: Tensor
) -> None:
    model = pruned(dim=dim)
    path, out = write(tmp_path / "masked.safetensors", model), tmp_path / "out"
    document = run(path, out, data=DIGITS, onnx=True)
    report = parse_report(document)
    assert report.proof.passed
    assert report.proof.checks[0].relative_difference < 1e-12  # type: ignore[operator]
    assert [check.name for check in report.proof.checks][-1] == "model.onnx in ONNX Runtime"
    carriers = 2 * 3 if dim == 0 else 0
    kept = {group.name: (group.kept, group.channels) for group in report.groups}
    gone = sum(channels - left for left, channels in kept.values())
    assert gone == (32 + 64 + 128) // 4 - carriers
    assert report.size.pruned.params < 0.8 * report.size.dense.params
    accuracy = report.accuracy
    assert accuracy is not None
    assert accuracy.dense is None
    assert accuracy.before_removal > 0.5
    stages = (accuracy.after_removal, accuracy.reloaded, accuracy.onnx)
    assert set(stages) == {accuracy.before_removal}
    assert report.training is None
    assert report.notes[0] == "3 tensors were multiplied by the masks of torch.nn.utils.prune"
    stay = ", 6 stay (constants that carry those of their group)" if dim == 0 else ""
    what = "filters" if dim == 0 else "input slices"
    assert report.notes[1] == f"{gone} of 56 zero {what} removed{stay}"
    smaller = load(out / "model.safetensors")
    with torch.no_grad():
        assert torch.allclose(smaller(images), model(images), rtol=1e-4, atol=1e-5)
    names = {path.name for path in out.iterdir()}
    assert names == {"model.safetensors", "model.onnx", "report.json", "report.html", "README.md"}
    assert read_header(out / "model.safetensors")["details"]["labels"] == list("0123456789")


def test_without_data_the_proof_takes_random_inputs(tmp_path: Path) -> None:
    path = write(tmp_path / "masked.safetensors", pruned())
    report = parse_report(run(path, tmp_path / "out"))
    assert report.data is None
    assert report.accuracy is None
    assert [check.inputs for check in report.proof.checks] == [12, 12, 8]


def test_a_directory_of_transformers(tmp_path: Path) -> None:
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config).eval()
    layer = model.bert.encoder.layer[0].intermediate.dense
    nn.init.normal_(layer.bias)
    prune.remove(prune.ln_structured(layer, "weight", amount=0.5, n=2, dim=0), "weight")
    model.save_pretrained(tmp_path / "bert")
    document = run(tmp_path / "bert", tmp_path / "out", model=None, onnx=True)
    report = parse_report(document)
    assert report.proof.passed
    assert report.layout == "native module with patched sizes"
    assert report.notes == (
        "10 of 12 zero filters removed, 2 stay (constants that carry those of their group)",
    )
    smaller = load(tmp_path / "out" / "model.safetensors")
    assert smaller.bert.encoder.layer[0].intermediate.dense.out_features == 14  # type: ignore[union-attr, index]
    error = refused(DataError, tmp_path / "bert", tmp_path / "more", model=None, data=DIGITS)
    assert str(error).endswith("does not say what its images must look like")


def test_scattered_zeros_are_not_channels(tmp_path: Path) -> None:
    model = pruned(amount=0)
    for stage in model.stages:
        prune.l1_unstructured(stage.conv2, "weight", amount=0.9)
    path = write(tmp_path / "w.safetensors", model)
    error = refused(StructureError, path, tmp_path / "out")
    assert error.exit_code == 1
    zeros = 0.9 * 9 * (32**2 + 64**2 + 128**2)
    share = 100 * zeros / sum(p.numel() for p in model.parameters() if p.ndim > 1)
    assert str(error) == (
        f"nothing in {path} can be removed: {share:.1f} % of its weights are zero, "
        "and no whole channel is"
    )
    assert not (tmp_path / "out").exists()


def test_zero_filters_that_must_stay_are_told_with_the_reason(tmp_path: Path) -> None:
    model = DigitsResNet()
    with torch.no_grad():
        model.fc.weight[3] = 0.0
        model.stages[1].conv2.weight[:2] = 0.0
    path = write(tmp_path / "w.safetensors", model)
    error = refused(StructureError, path, tmp_path / "out")
    assert str(error) == (
        f"nothing in {path} can be removed: 0 of 3 zero filters removed, "
        "2 stay (the channel is neither zero nor constant where it is read), "
        "1 stay (the model's output)"
    )


def test_a_pattern_spares_a_group(tmp_path: Path) -> None:
    path = write(tmp_path / "w.safetensors", pruned())
    report = parse_report(run(path, tmp_path / "out", keep=("stages.2*",)))
    assert report.notes[1].startswith("20 of 56 zero filters removed")


def test_a_checkpoint_is_not_replaced_by_its_own_result(tmp_path: Path) -> None:
    path = write(tmp_path / "w.safetensors", pruned())
    out = tmp_path / "out"
    run(path, out)
    inside = write(out / "model.safetensors", pruned())
    with pytest.raises(OutputError) as caught:
        run(inside, out, overwrite=True)
    assert str(caught.value) == f"the checkpoint is in {out} itself"
    assert inside.is_file()
    run(path, out, overwrite=True)


def test_data_with_other_classes_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "net.py"
    model.write_text(
        "from torch import nn\n"
        "PREPROCESSING = dict(input_size=(1, 8, 8), mean=(0.3,), std=(0.4,))\n"
        "def build():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))\n"
    )
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
    prune.ln_structured(net[1], "weight", amount=0.5, n=2, dim=0)
    path = write(tmp_path / "w.safetensors", net)
    named = {"model": f"{model}:build"}
    error = refused(DataError, path, tmp_path / "out", data=DIGITS, **named)
    assert str(error) == f"{path} tells 3 classes apart, digits has 10"
    report = parse_report(run(path, tmp_path / "out", **named))
    assert report.model.classes == 3


def test_folding_that_changes_the_function_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: Any, structure: Any) -> Folding:
        with torch.no_grad():
            model.stages[0].conv2.weight[:, :4] = 0.0
        return Folding({}, {})

    # The package's attribute of that name is the function.
    module = importlib.import_module("ramda_cli.pipeline.remove")
    monkeypatch.setattr(module, "fold_constants_", wrong)
    path = write(tmp_path / "w.safetensors", pruned())
    error = refused(EquivalenceError, path, tmp_path / "out")
    assert error.exit_code == 3


def test_the_report_is_in_the_file_too(tmp_path: Path) -> None:
    path = write(tmp_path / "w.safetensors", pruned())
    document = run(path, tmp_path / "out")
    stored = read_header(tmp_path / "out" / "model.safetensors")["report"]
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written == document
    assert stored["groups"] == written["groups"]
    assert stored["reproducibility"]["config"]["checkpoint"] == str(path)
