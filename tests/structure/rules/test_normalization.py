import pytest
import torch
from torch import Tensor, nn

from tests.structure.exactness import Net, check_removal, indices_of, inputs, parameter

X = inputs(2, 5)
MORE = inputs(7, 5)
IMAGE = inputs(2, 3, 6, 6)
MORE_IMAGES = inputs(5, 3, 6, 6)


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_a_normalised_width_stays_and_says_where(norm: type[nn.Module]) -> None:
    net = Net(
        lambda m, x: m.fc2(m.fc1(m.norm(m.stem(x))).relu()),
        stem=nn.Linear(5, 8), norm=norm(8), fc1=nn.Linear(8, 6), fc2=nn.Linear(6, 2),
    )  # fmt: skip
    removed = check_removal(net, X, MORE)
    assert removed.channels == {"fc1": 6}
    widths = [fixed for fixed in removed.structure.fixed if "Norm" in fixed.reason]
    assert [(fixed.name, fixed.channels, fixed.reason) for fixed in widths] == [
        ("stem", 8, "the width of a LayerNorm or RMSNorm at norm")
    ]


def test_an_rms_norm_written_out() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.stem(x)
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6) * m.scale
        return m.fc2(m.fc1(y).relu())

    net = Net(
        forward, stem=nn.Linear(5, 8), scale=parameter(8), fc1=nn.Linear(8, 6), fc2=nn.Linear(6, 2)
    )
    removed = check_removal(net, X, MORE)
    assert removed.channels == {"fc1": 6}
    assert removed.reasons("stem") == ["a reduction over channels"]


def test_a_channel_that_leaves_before_the_norm_is_free() -> None:
    net = Net(
        lambda m, x: m.norm(m.b(m.a(x).relu()) + x),
        a=nn.Linear(5, 8), b=nn.Linear(8, 5), norm=nn.LayerNorm(5),
    )  # fmt: skip
    assert check_removal(net, X, MORE).channels == {"a": 8}


@pytest.mark.parametrize(("norm_groups", "unit"), [(1, None), (4, 2), (8, 1)])
def test_group_norm_goes_by_whole_groups(norm_groups: int, unit: int | None) -> None:
    net = Net(
        lambda m, x: m.c(m.b(m.norm(m.a(x)).relu())),
        a=nn.Conv2d(3, 8, 1), norm=nn.GroupNorm(norm_groups, 8), b=nn.Conv2d(8, 4, 1),
        c=nn.Conv2d(4, 2, 1),
    )  # fmt: skip
    removed = check_removal(net, IMAGE, MORE_IMAGES)
    if unit is None:
        assert removed.channels == {"b": 4}
        assert removed.reasons("a") == ["the width of a GroupNorm at norm"]
    else:
        assert removed.channels == {"a": norm_groups, "b": 4}
        group = removed.structure.group("a")
        assert indices_of(group.coupled, "a.weight", 0)[1] == list(range(unit, 2 * unit))


@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm_acts_on_each_channel(affine: bool) -> None:
    net = Net(
        lambda m, x: m.b(m.norm(m.a(x))),
        a=nn.Conv2d(3, 8, 1), norm=nn.InstanceNorm2d(8, affine=affine), b=nn.Conv2d(8, 2, 1),
    )  # fmt: skip
    # Without an affine map the bias of `a` has no effect, but it is removed with its channel.
    assert check_removal(net, IMAGE, MORE_IMAGES, moves=False).channels == {"a": 8}


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_over_features(affine: bool) -> None:
    net = Net(
        lambda m, x: m.b(m.norm(m.a(x)).relu()),
        a=nn.Linear(5, 8), norm=nn.BatchNorm1d(8, affine=affine), b=nn.Linear(8, 2),
    )  # fmt: skip
    assert check_removal(net, X, MORE).channels == {"a": 8}


def test_a_norm_inside_each_head_keeps_the_heads() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.norm(m.a(x).unflatten(-1, (4, 3)))
        return m.b(y.flatten(-2))

    net = Net(forward, a=nn.Linear(5, 12), norm=nn.LayerNorm(3), b=nn.Linear(12, 2))
    removed = check_removal(net, X, MORE)
    assert removed.channels == {"a": 4}


def test_weight_norm_leaves_the_output_side_free() -> None:
    net = Net(
        lambda m, x: m.c(m.b(m.a(x).relu()).relu()),
        a=nn.Linear(5, 8), b=nn.utils.parametrizations.weight_norm(nn.Linear(8, 6)),
        c=nn.Linear(6, 2),
    )  # fmt: skip
    removed = check_removal(net, X, MORE, moves=False)
    assert 6 in removed.channels.values()
    assert 8 not in removed.channels.values()
