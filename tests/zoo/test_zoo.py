"""The promise of the project on every family of timm and every type of transformers."""

from pathlib import Path

import pytest
import timm
import torch

from tests.zoo.check import EXACT, Checked, check
from tests.zoo.huggingface import TYPES
from tests.zoo.timm_families import FAMILIES

QUICK_FAMILIES = ("byobnet", "convnext", "nfnet")
QUICK_TYPES = ("bert", "gpt2", "llama", "mixtral", "swin", "t5")


def assert_promises(checked: Checked) -> None:
    assert checked.groups > 0
    assert checked.error <= EXACT
    assert checked.moved > 1e-3
    assert checked.trains
    assert checked.tokens is not False


def check_family(name: str, directory: Path) -> Checked:
    torch.manual_seed(0)
    family = FAMILIES[name]
    return check(family.build(), family.inputs(1), directory, source=family.source, onnx=False)


def check_type(name: str, directory: Path) -> Checked:
    torch.manual_seed(0)
    kind = TYPES[name]
    return check(kind.build(), kind.inputs(1), directory, generates=kind.generates, onnx=False)


def test_every_family_of_timm_is_listed() -> None:
    assert set(FAMILIES) == set(timm.list_modules())
    assert len(FAMILIES) == 98
    assert len(TYPES) == 42


@pytest.mark.parametrize("name", QUICK_FAMILIES)
def test_a_family_of_timm(name: str, tmp_path: Path) -> None:
    assert_promises(check_family(name, tmp_path))


@pytest.mark.parametrize("name", QUICK_TYPES)
def test_a_type_of_transformers(name: str, tmp_path: Path) -> None:
    checked = check_type(name, tmp_path)
    assert_promises(checked)
    assert checked.layout == "native"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(FAMILIES) - set(QUICK_FAMILIES)))
def test_every_other_family_of_timm(name: str, tmp_path: Path) -> None:
    assert_promises(check_family(name, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(TYPES) - set(QUICK_TYPES)))
def test_every_other_type_of_transformers(name: str, tmp_path: Path) -> None:
    assert_promises(check_type(name, tmp_path))
