"""Operators where channels of several values meet: sums, products, gates, shared weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ramda_cli.structure import discover
from tests.structure.exactness import Net, check_removal, inputs, parameter

X = inputs(2, 5)
MORE = inputs(7, 5)
IMAGE = inputs(2, 3, 7, 7)
MORE_IMAGES = inputs(4, 3, 7, 7)


def test_linear_layers_and_a_bias() -> None:
    net = Net(lambda m, x: m.b(m.a(x).tanh()), a=nn.Linear(5, 8), b=nn.Linear(8, 3))
    removed = check_removal(net, X, MORE)
    assert removed.channels == {"a": 8}
    assert removed.smaller.b.in_features == 4


def test_a_residual_sum_is_one_group_read_by_both() -> None:
    net = Net(
        lambda m, x: (lambda h: m.out(h + m.b(m.a(h).relu())))(m.stem(x)),
        stem=nn.Linear(5, 8), a=nn.Linear(8, 6), b=nn.Linear(6, 8), out=nn.Linear(8, 2),
    )  # fmt: skip
    removed = check_removal(net, X, MORE)
    assert removed.channels == {"stem": 8, "a": 6}
    group = removed.structure.group("stem")
    assert [(p.parameter, p.dim) for p in group.penalized] == [("a.weight", 1), ("out.weight", 1)]
    assert ("b.weight", 0) in {(p.parameter, p.dim) for p in group.coupled}


def test_option_a_shortcut_pads_channels() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.stem(x)
        y = m.conv(x)
        return m.out((F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)) + y).relu())

    net = Net(
        forward, stem=nn.Conv2d(3, 4, 3, padding=1), conv=nn.Conv2d(4, 8, 3, 2, padding=1),
        out=nn.Conv2d(8, 2, 1),
    )  # fmt: skip
    removed = check_removal(net, IMAGE, MORE_IMAGES)
    assert sorted(removed.channels.values()) == [4, 4]  # shared with the stem, and padded
    shared = removed.structure.group("stem")
    assert {p.parameter for p in shared.penalized} == {"conv.weight", "out.weight"}


def test_padding_with_copies_keeps_the_channels() -> None:
    net = Net(
        lambda m, x: m.b(F.pad(m.a(x), (2, 2), mode="reflect")),
        a=nn.Conv1d(3, 6, 1), b=nn.Conv1d(6, 2, 3),
    )  # fmt: skip
    assert check_removal(net, inputs(2, 3, 8), inputs(3, 3, 8)).channels == {"a": 6}


def test_squeeze_and_excitation_gate() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.a(x)
        gate = m.up(m.down(y.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return m.b(y * gate)

    net = Net(
        forward, a=nn.Conv2d(3, 8, 3), down=nn.Conv2d(8, 4, 1), up=nn.Conv2d(4, 8, 1),
        b=nn.Conv2d(8, 2, 1),
    )  # fmt: skip
    assert check_removal(net, IMAGE, MORE_IMAGES).channels == {"a": 8, "down": 4}


def test_gated_mlp_couples_both_halves() -> None:
    def glu(m: Net, x: Tensor) -> Tensor:
        value, gate = m.a(x).chunk(2, dim=-1)
        return m.b(value * gate.sigmoid())

    removed = check_removal(Net(glu, a=nn.Linear(5, 12), b=nn.Linear(6, 2)), X, MORE)
    (group,) = removed.structure.groups
    assert group.channels == 6
    assert group.coupled[0].indices.tolist() == [[i, i + 6] for i in range(6)]


def test_glu_operator() -> None:
    net = Net(lambda m, x: m.b(F.glu(m.a(x))), a=nn.Linear(5, 12), b=nn.Linear(6, 2))
    assert check_removal(net, X, MORE).channels == {"a": 6}


def test_swiglu_couples_two_layers() -> None:
    net = Net(
        lambda m, x: m.down(F.silu(m.gate(x)) * m.up(x)),
        gate=nn.Linear(5, 6), up=nn.Linear(5, 6), down=nn.Linear(6, 2),
    )  # fmt: skip
    removed = check_removal(net, X, MORE)
    assert removed.channels == {"gate": 6}
    assert {p.parameter for p in removed.structure.groups[0].coupled} == {
        "gate.weight", "gate.bias", "up.weight", "up.bias", "down.weight",
    }  # fmt: skip


def test_a_layer_scale_belongs_to_its_channels() -> None:
    net = Net(
        lambda m, x: m.b(m.a(x) * m.gamma + 1.0),
        a=nn.Linear(5, 8), gamma=parameter(8), b=nn.Linear(8, 2),
    )  # fmt: skip
    removed = check_removal(net, X, MORE)
    assert "gamma" in {p.parameter for p in removed.structure.groups[0].coupled}


def test_one_number_for_all_channels_couples_nothing() -> None:
    net = Net(
        lambda m, x: m.b(m.a(x) * m.scale / 3), a=nn.Linear(5, 8), scale=parameter(1),
        b=nn.Linear(8, 2),
    )  # fmt: skip
    assert check_removal(net, X, MORE).channels == {"a": 8}


def test_a_tied_weight_is_one_parameter() -> None:
    net = Net(
        lambda m, x: m.out(m.b(m.a(m.stem(x)).relu()).relu()),
        stem=nn.Linear(5, 6), a=nn.Linear(6, 6, bias=False), b=nn.Linear(6, 6, bias=False),
        out=nn.Linear(6, 2),
    )  # fmt: skip
    net.b.weight = net.a.weight
    removed = check_removal(net, X, MORE, moves=False)
    assert removed.channels == {"stem": 6}
    assert [(p.parameter, p.dim) for p in removed.structure.groups[0].penalized] == [
        ("a.weight", 1), ("out.weight", 1),
    ]  # fmt: skip


def test_tied_layers_beside_others_stay_tied() -> None:
    net = Net(
        lambda m, x: m.out1(m.a(x).relu()) + m.out2(m.b(2 * x).relu()),
        a=nn.Linear(5, 6), b=nn.Linear(5, 6), out1=nn.Linear(6, 2), out2=nn.Linear(6, 2),
    )  # fmt: skip
    net.b.weight = net.a.weight
    removed = check_removal(net, X, MORE)
    assert removed.channels == {"a": 6}
    assert removed.plan.layout == "native"
    assert removed.smaller.b.weight is removed.smaller.a.weight
    assert removed.smaller.b.weight.shape == (3, 5)


def test_a_transposed_view_of_a_weight_is_not_the_same_weight() -> None:
    net = Net(
        lambda m, x: m.out(m.b(m.a(x).relu()).relu()),
        a=nn.Linear(6, 6), b=nn.Linear(6, 6), out=nn.Linear(6, 2),
    ).double()  # fmt: skip
    net.b.weight = nn.Parameter(net.a.weight.detach().t())
    structure = discover(net, inputs(2, 6))
    assert structure.groups == ()
    assert {fixed.reason for fixed in structure.fixed if fixed.name in ("a", "b")} == {
        "shares its storage with another parameter"
    }


def test_a_fixed_matrix_is_no_consumer() -> None:
    net = Net(lambda m, x: m.b(m.a(x) @ m.mix), a=nn.Linear(5, 8), b=nn.Linear(6, 2))
    net.register_buffer("mix", torch.empty(8, 6, dtype=torch.float64))
    removed = check_removal(net, X, MORE)
    assert removed.channels == {"mix": 6}
    (reason,) = removed.reasons("a")
    assert reason == "multiplied and summed by something that is not a plain weight"


def test_elementwise_constants_of_a_channel() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = torch.where(m.a(x) > 0.1, m.a(x), torch.zeros_like(m.a(x)))
        return m.b(y.clamp(min=-1) + torch.full((x.shape[0], 8), 0.5, dtype=x.dtype))

    net = Net(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2))
    assert check_removal(net, X, MORE).channels == {"a": 8}
