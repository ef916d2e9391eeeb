import numpy as np
import pytest
import timm
import torch
from torch import nn

from ramda_cli.structure import DependencyGroup, Support, discover, identify, zero_
from ramda_cli.structure.groups import ParameterSlice
from ramda_cli.structure.widths import free_widths, hold_back, plan_widths
from ramda_cli.surgery import remove
from ramda_cli.verification import verify


def group(name: str, channels: int, *blocks: int) -> DependencyGroup:
    parts = tuple(
        ParameterSlice(f"{name}.{i}", 0, np.arange(channels * block).reshape(channels, block))
        for i, block in enumerate(blocks or (1,))
    )
    return DependencyGroup(name, channels, parts, parts)


def brute_at_least(channels: int, multiple: int, kept: int) -> int:
    allowed = [n for n in range(1, channels + 1) if n % multiple == 0 or n == channels]
    return next(n for n in allowed if n >= kept)


@pytest.mark.parametrize("multiple", [1, 2, 8, 48])
@pytest.mark.parametrize("channels", [1, 7, 8, 24, 45])
def test_the_next_allowed_width(channels: int, multiple: int) -> None:
    widths = plan_widths([group("a", channels)], round_to=multiple, uniform=False)
    for kept in range(channels + 1):
        found = widths.at_least(np.array([kept]))
        assert found.tolist() == [brute_at_least(channels, multiple, max(kept, 1))]


def test_a_block_counts_as_wide_as_it_is_in_every_tensor() -> None:
    groups = [group("heads", 12, 64), group("odd", 12, 6, 4), group("flat", 32, 1, 49)]
    widths = plan_widths(groups, round_to=8, uniform=False)
    # A head of 64 is a multiple already; 6 n and 4 n are where n is one of 4.
    assert widths.multiple.tolist() == [1, 4, 8]


def test_layers_that_are_alike_are_as_wide_as_the_widest() -> None:
    names = ["blocks.0.mlp", "blocks.1.mlp", "blocks.1.attn", "layer1.0.mlp", "layer2.0.mlp"]
    groups = [group(name, 16) for name in names] + [group("blocks.2.mlp", 24)]
    widths = plan_widths(groups, round_to=4, uniform=True)
    assert widths.family.tolist() == [0, 0, 1, 2, 3, 4]
    assert widths.at_least(np.array([3, 9, 3, 1, 5, 23])).tolist() == [12, 12, 4, 4, 8, 24]


def test_free_widths_are_those_of_no_demand() -> None:
    groups = [group("a.0", 5), group("b", 7)]
    assert plan_widths(groups, round_to=1, uniform=False).free
    assert plan_widths(groups, round_to=1, uniform=True).free
    assert not plan_widths(groups, round_to=2, uniform=False).free
    assert not plan_widths([group("a.0", 5), group("a.1", 5)], round_to=1, uniform=True).free
    assert free_widths([5, 7]).at_least(np.array([0, 3])).tolist() == [1, 3]


def test_zero_channels_are_held_back_where_a_width_needs_them() -> None:
    groups = [group("a", 16), group("b", 16), group("c", 16)]
    widths = plan_widths(groups, round_to=8, uniform=False)
    support = Support({"a": [0, 1, 2], "b": list(range(10))}, {"b": [15]})
    found = hold_back(support, groups, widths)
    assert found.removable == {"b": list(range(8))}
    assert found.held == {"a": [0, 1, 2], "b": [8, 9, 15]}


def test_every_width_is_rounded_after_the_removal() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 20, 3), nn.ReLU(), nn.Conv2d(20, 24, 3), nn.Flatten(), nn.Linear(24 * 16, 10)
    )
    structure = discover(model, torch.zeros(2, 3, 8, 8))
    zero_(model, structure, {"0": range(11), "2": range(20)})
    widths = plan_widths(structure.groups, round_to=8, uniform=False)
    support = hold_back(identify(model, structure), structure.groups, widths)
    smaller, _ = remove(model, structure, support)
    shapes = [tuple(tensor.shape) for name, tensor in smaller.named_parameters() if "w" in name]
    assert shapes == [(16, 3, 3, 3), (8, 16, 3, 3), (10, 8 * 16)]
    assert verify(model, smaller, torch.zeros(2, 3, 8, 8)).passed


def test_blocks_of_a_transformer_stay_alike() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=3)
    structure = discover(model, torch.zeros(2, 3, 32, 32))
    widths = plan_widths(structure.groups, round_to=1, uniform=True)
    assert np.bincount(widths.family).tolist() == [3, 3]
