import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.structure.exactness import Net, check_removal, indices_of, inputs

X = inputs(2, 3, 7, 7)
MORE = inputs(5, 3, 7, 7)


def test_a_channel_is_a_filter_its_bias_its_norm_and_what_reads_it() -> None:
    net = Net(
        lambda m, x: m.b(m.norm(m.a(x)).relu()),
        a=nn.Conv2d(3, 8, 3),
        norm=nn.BatchNorm2d(8),
        b=nn.Conv2d(8, 4, 3),
    )
    removed = check_removal(net, X, MORE)
    (group,) = removed.structure.groups
    assert (group.name, group.channels) == ("a", 8)
    assert [(p.parameter, p.dim) for p in group.penalized] == [("b.weight", 1)]
    assert {(p.parameter, p.dim) for p in group.coupled} == {
        ("a.weight", 0), ("a.bias", 0), ("norm.weight", 0), ("norm.bias", 0),
        ("norm.running_mean", 0), ("norm.running_var", 0), ("b.weight", 1),
    }  # fmt: skip
    for part in group.coupled:
        assert part.indices.tolist() == [[i] for i in range(8)]
    assert removed.plan.layout == "native"
    assert (removed.smaller.a.out_channels, removed.smaller.norm.num_features) == (4, 4)


def test_whole_conv_groups_are_the_unit() -> None:
    net = Net(
        lambda m, x: m.c(m.b(m.a(x)).relu()),
        a=nn.Conv2d(3, 8, 1),
        b=nn.Conv2d(8, 12, 3, groups=4),
        c=nn.Conv2d(12, 2, 1),
    )
    removed = check_removal(net, X, MORE)
    (group,) = removed.structure.groups
    assert group.channels == 4
    assert indices_of(group.coupled, "a.weight", 0) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert indices_of(group.coupled, "c.weight", 1)[1] == [3, 4, 5]
    assert removed.smaller.b.groups == 2


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_channels_pass_through(multiplier: int) -> None:
    net = Net(
        lambda m, x: m.c(m.b(m.a(x)).relu()),
        a=nn.Conv2d(3, 6, 1),
        b=nn.Conv2d(6, 6 * multiplier, 3, groups=6),
        c=nn.Conv2d(6 * multiplier, 2, 1),
    )
    removed = check_removal(net, X, MORE)
    assert removed.channels == {"a": 6}
    (group,) = removed.structure.groups
    assert group.coupled[-1].block == multiplier


@pytest.mark.parametrize("conv_groups", [1, 2])
def test_transposed_convolution(conv_groups: int) -> None:
    net = Net(
        lambda m, x: m.c(m.b(m.a(x).relu()).relu()),
        a=nn.Conv2d(3, 8, 1),
        b=nn.ConvTranspose2d(8, 6, 2, stride=2, groups=conv_groups),
        c=nn.Conv2d(6, 2, 1),
    )
    removed = check_removal(net, X, MORE)
    expected = {"a": 8, "b": 6} if conv_groups == 1 else {"a": 2}
    assert removed.channels == expected


@pytest.mark.parametrize(("conv", "norm", "shape"), [
    (nn.Conv1d, nn.BatchNorm1d, (2, 3, 9)),
    (nn.Conv3d, nn.BatchNorm3d, (2, 3, 4, 4, 4)),
])  # fmt: skip
def test_one_and_three_dimensions(
    conv: type[nn.Module], norm: type[nn.Module], shape: tuple[int, ...]
) -> None:
    net = Net(
        lambda m, x: m.b(m.norm(m.a(x)).relu()), a=conv(3, 8, 3), norm=norm(8), b=conv(8, 2, 2)
    )
    assert check_removal(net, inputs(*shape), inputs(4, *shape[1:])).channels == {"a": 8}


def test_same_padding_and_pooling() -> None:
    net = Net(
        lambda m, x: m.b(F.adaptive_avg_pool2d(F.max_pool2d(m.a(x), 2), 2)),
        a=nn.Conv2d(3, 8, 3, padding="same"),
        b=nn.Conv2d(8, 2, 2),
    )
    assert check_removal(net, X, MORE).channels == {"a": 8}


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_resampling(mode: str) -> None:
    net = Net(
        lambda m, x: m.b(F.interpolate(m.a(x), scale_factor=2, mode=mode)),
        a=nn.Conv2d(3, 8, 3),
        b=nn.Conv2d(8, 2, 2),
    )
    assert check_removal(net, X, MORE).channels == {"a": 8}


def test_the_models_input_and_output_stay() -> None:
    net = Net(lambda m, x: m.b(m.a(x)), a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(8, 4, 3))
    removed = check_removal(net, X, MORE)
    fixed = {entry.name: entry for entry in removed.structure.fixed}
    assert fixed["a.weight[dim 1]"].channels == 3
    assert fixed["a.weight[dim 1]"].reason == "the model's input"
    assert fixed["b"].channels == 4
    assert fixed["b"].reason == "the model's output"
    assert set(fixed) == {"a.weight[dim 1]", "b"}


def test_a_weight_that_is_standardised_cannot_be_zeroed() -> None:
    def forward(m: Net, x: torch.Tensor) -> torch.Tensor:
        w = m.b.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)
        return m.c(F.conv2d(m.a(x), w).relu())

    net = Net(forward, a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 6, 3), c=nn.Conv2d(6, 2, 1))
    removed = check_removal(net, X, MORE, moves=False)
    assert removed.channels == {"b": 6}
    assert removed.reasons("a")
