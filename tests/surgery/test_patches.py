import pytest
import torch
from timm.layers import Attention
from torch import nn

from ramda_cli.errors import FileFormatError
from ramda_cli.surgery.patches import apply_patches_, set_tensor_


@pytest.mark.parametrize(
    ("path", "name", "size"),
    [
        ("0", "kernel_size", 1),
        ("0", "__class__", 1),
        ("0", "weight", 1),
        ("0", "num_heads", 1),
        ("1", "out_channels", 2),
        ("missing", "out_channels", 2),
        ("0", "out_channels", 0),
        ("0", "out_channels", True),
        ("0", "out_channels", 2.0),
        ("0", "out_channels", "2"),
    ],
)
def test_only_known_sizes_may_be_set(path: str, name: str, size: object) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    with pytest.raises(FileFormatError, match=f"the plan sets {path}.{name} to") as raised:
        apply_patches_(model, {path: {name: size}})  # type: ignore[dict-item]
    assert raised.value.hint == "the file is damaged or was not written by ramda"
    assert model[0].out_channels == 4


def test_known_sizes_are_set() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Attention(8, num_heads=4))
    apply_patches_(model, {"0": {"out_channels": 2}, "1": {"num_heads": 1, "attn_dim": 2}})
    assert (model[0].out_channels, model[1].num_heads, model[1].attn_dim) == (2, 1, 2)


def test_a_tensor_keeps_its_kind() -> None:
    norm = nn.BatchNorm1d(4)
    norm.weight.requires_grad_(False)
    set_tensor_(norm, "weight", torch.ones(2))
    set_tensor_(norm, "running_mean", torch.ones(2))
    assert isinstance(norm.weight, nn.Parameter)
    assert not norm.weight.requires_grad
    assert not isinstance(norm.running_mean, nn.Parameter)
    assert "running_mean" in norm.state_dict()
