"""The acceptance test: real architectures, zeroed, identified, removed, and equal afterwards."""

import importlib.util
import time
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from ramda_cli.export import OnnxModel, export_onnx
from ramda_cli.structure import discover, identify, zero_
from ramda_cli.surgery import remove
from tests.structure.exactness import assert_equal, call, choose, elements, randomize_

# Model, side of its square input in pixels, groups, removable channels.
MODELS = [
    ("resnet18", 64, 12, 2880),
    ("resnet50", 64, 37, 11456),
    ("resnet10t", 64, 10, 1976),
    ("vgg11_bn", 64, 10, 10944),
    ("vgg19_bn", 64, 18, 13696),
    ("mobilenetv3_small_050", 64, 26, 3072),
    ("efficientnet_b0", 64, 40, 11404),
    ("regnetx_002", 64, 18, 1040),
    ("densenet121", 64, 120, 10240),
    ("convnext_atto", 64, 12, 7360),
    ("mixer_s32_224", 224, 16, 18432),
    ("vit_tiny_patch16_224", 224, 24, 9252),
    ("deit_tiny_distilled_patch16_224", 224, 24, 9252),
    ("cifar_resnet20", 32, 12, 400),
]


def build(name: str) -> nn.Module:
    if name == "cifar_resnet20":
        return _from_file("configs/cifar10/resnet.py").resnet20()
    return timm.create_model(name)


def _from_file(path: str) -> object:
    file = Path(__file__).resolve().parents[1] / path
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def images(side: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, side, side, generator=generator, dtype=torch.float64)


SLOW = ("densenet121", "deit_tiny_distilled_patch16_224", "efficientnet_b0", "mixer_s32_224",
        "mobilenetv3_small_050", "regnetx_002", "resnet18", "resnet50", "vgg11_bn",
        "vgg19_bn")  # fmt: skip


@pytest.mark.parametrize(
    ("name", "side", "groups", "channels"),
    [pytest.param(*m, marks=pytest.mark.slow) if m[0] in SLOW else m for m in MODELS],
)
def test_removing_zero_channels_changes_nothing(
    name: str, side: int, groups: int, channels: int, tmp_path: Path
) -> None:
    model = randomize_(build(name))
    example = images(side)
    structure = discover(model, example)
    assert len(structure.groups) == groups
    assert sum(group.channels for group in structure.groups) == channels
    chosen = choose(structure, 0.3)
    assert set(chosen) == {group.name for group in structure.groups}
    before = call(model, example)
    zero_(model, structure, chosen)
    expected = call(model, example)
    assert (before - expected).abs().max() > 1e-3 * before.abs().max()
    support = identify(model, structure)
    assert support.removable == chosen
    assert support.held == {}
    smaller, plan = remove(model, structure, support)
    assert plan.layout == "native"
    # Option-A shortcuts keep their padding in an attribute of the user's own class.
    assert bool(plan.submodules) == (name == "cifar_resnet20")
    assert elements(smaller) < elements(model)
    assert_equal(expected, call(smaller, example))
    export_onnx(smaller.float(), tmp_path / "model.onnx", (example.float(),))
    (actual,) = OnnxModel(tmp_path / "model.onnx")([images(side, batch=3).float()])
    with torch.no_grad():
        torch_output = smaller(images(side, batch=3).float())
    assert (actual - torch_output).abs().max() <= 1e-4 * torch_output.abs().max()


@pytest.mark.slow
def test_resnet50_is_quick() -> None:
    model = build("resnet50").eval()
    start = time.perf_counter()
    structure = discover(model, images(224).float())
    assert time.perf_counter() - start < 10
    zero_(model, structure, choose(structure, 0.3))
    support = identify(model, structure)
    start = time.perf_counter()
    remove(model, structure, support)
    assert time.perf_counter() - start < 5
