"""The stable names of the Python API, their signatures, and the sequence a user writes."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import ramda_cli as ramda
from ramda_cli import (  # noqa: F401  (each name can be imported)
    RAMDA,
    DependencyGroup,
    GroupLasso,
    GroupMCP,
    Penalty,
    Proof,
    RemovalPlan,
    Structure,
    Support,
    discover,
    identify,
    input_channel_structure,
    load,
    penalties,
    remove,
    save,
    verify,
    zero_,
)

POSITIONAL = {
    "discover": ["model", "example_inputs"],
    "input_channel_structure": ["model"],
    "zero_": ["model", "structure", "channels"],
    "identify": ["model", "structure"],
    "remove": ["model", "structure", "support"],
    "verify": ["model", "smaller", "example_inputs"],
    "save": ["smaller", "plan", "path"],
    "load": ["path"],
    "RAMDA": ["named_parameters", "penalties"],
    "Penalty": ["group", "regularizer"],
    "penalties": ["structure", "regularizer"],
    "GroupLasso": ["weight"],
    "GroupMCP": ["weight", "gamma"],
}
ATTRIBUTES = {
    "DependencyGroup": {"name", "channels", "penalized", "coupled"},
    "Structure": {"groups", "fixed"},
    "Support": {"removable"},
    "Proof": {"max_abs_difference", "tolerance", "passed"},
    "RemovalPlan": {"removed", "kept"},
}


class Two(nn.Module):
    """Convolution, BatchNorm and a head; the second input is added to the features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.hidden = nn.Linear(16, 24)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        x = self.norm(self.conv(x)).relu().mean(dim=(2, 3))
        x = self.hidden(x).relu()
        return self.head(x) if shift is None else self.head(x) + shift


def small() -> nn.Module:
    torch.manual_seed(0)
    return Two()


def resnet10t() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("resnet10t", num_classes=5)


def test_every_stable_name_is_there() -> None:
    assert set(ramda.__all__) == set(POSITIONAL) | set(ATTRIBUTES)
    assert set(ramda._HOME) == set(ramda.__all__)
    with pytest.raises(AttributeError, match="no attribute 'prune'"):
        ramda.prune  # noqa: B018


@pytest.mark.parametrize("name", POSITIONAL)
def test_signatures_are_stable(name: str) -> None:
    signature = inspect.signature(getattr(ramda, name))
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    parameters = signature.parameters.values()
    assert [p.name for p in parameters if p.kind in kinds] == POSITIONAL[name]
    # Whatever else there is, is optional.
    assert all(
        p.default is not inspect.Parameter.empty for p in parameters if p.kind is p.KEYWORD_ONLY
    )
    assert inspect.getdoc(getattr(ramda, name))


def test_no_submodule_takes_the_place_of_a_function() -> None:
    for module in pkgutil.walk_packages(ramda.__path__, "ramda_cli."):
        importlib.import_module(module.name)
    for name in POSITIONAL:
        assert callable(getattr(ramda, name)), name
    assert ramda.verify is verify
    assert ramda.load is load


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, ramda_cli; ramda_cli.__all__; sys.exit('torch' in sys.modules)"
    root = Path(__file__).resolve().parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@pytest.mark.parametrize(
    ("build", "example_inputs"),
    [
        (small, torch.randn(2, 3, 8, 8)),
        (small, (torch.randn(2, 3, 8, 8), torch.randn(2, 5))),
        (small, {"x": torch.randn(2, 3, 8, 8), "shift": torch.randn(2, 5)}),
        (resnet10t, torch.randn(2, 3, 32, 32)),
        pytest.param(resnet10t, (torch.randn(2, 3, 32, 32),), marks=pytest.mark.slow),
        pytest.param(resnet10t, {"x": torch.randn(2, 3, 32, 32)}, marks=pytest.mark.slow),
    ],
    ids=["tensor", "tuple", "dict", "timm-tensor", "timm-tuple", "timm-dict"],
)
def test_the_sequence_of_the_design_works(build: Any, example_inputs: Any, tmp_path: Path) -> None:
    model = build()
    path = tmp_path / "model.safetensors"
    structure = ramda.discover(model, example_inputs)
    first = structure.groups[0]
    assert all(hasattr(first, name) for name in ATTRIBUTES["DependencyGroup"])
    assert all(fixed.reason for fixed in structure.fixed)

    ramda.zero_(model, structure, {first.name: [1, 3]})
    support = ramda.identify(model, structure)
    assert support.removable == {first.name: [1, 3]}

    smaller, plan = ramda.remove(model, structure, support)
    assert count(smaller) < count(model)
    proof = ramda.verify(model, smaller, example_inputs)
    assert proof.passed
    assert proof.max_abs_difference <= proof.tolerance < 1e-6

    ramda.save(smaller, plan, path)
    loaded = ramda.load(path)
    assert ramda.verify(model, loaded, example_inputs).passed

    optimizer = ramda.RAMDA(
        model.named_parameters(),
        ramda.penalties(structure, ramda.GroupLasso(1e-6)),
        lr=1e-2,
        momentum=1e-2,
    )
    run(model, example_inputs).square().sum().backward()
    before = [p.clone() for p in model.parameters()]
    optimizer.step()
    assert any(not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))


def test_a_strong_penalty_ends_in_a_smaller_proven_file(tmp_path: Path) -> None:
    """The same in the order of a real run: train, and remove what became zero."""
    model, x = small(), torch.randn(8, 3, 8, 8)
    structure = ramda.discover(model, x)
    optimizer = ramda.RAMDA(
        model.named_parameters(),
        ramda.penalties(structure, ramda.GroupLasso(2e-2)),
        lr=1e-2,
        momentum=1.0,
    )
    labels = torch.arange(8) % 5
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
    support = ramda.identify(model, structure)
    assert support.removable
    smaller, plan = ramda.remove(model, structure, support)
    assert ramda.verify(model, smaller, x).passed
    ramda.save(smaller, plan, tmp_path / "model.safetensors")
    assert ramda.verify(model, ramda.load(tmp_path / "model.safetensors"), x).passed


def test_the_papers_groups_are_one_tensor_at_a_time() -> None:
    structure = ramda.input_channel_structure(small())
    assert [(g.name, g.channels) for g in structure.groups] == [
        ("conv.weight", 3),
        ("hidden.weight", 16),
        ("head.weight", 24),
    ]


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def run(model: nn.Module, inputs: Any) -> Tensor:
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)
