import pytest
import torch
from torch import nn

from ramda_cli.structure import Structure, discover, identify, zero_
from ramda_cli.surgery import remove
from tests.structure.exactness import (
    Net,
    assert_equal,
    call,
    choose,
    inputs,
    parameter,
    randomize_,
)


@pytest.fixture
def net() -> nn.Module:
    return randomize_(Net(lambda m, x: m.b(m.a(x).relu()), a=nn.Linear(5, 8), b=nn.Linear(8, 2)))


@pytest.fixture
def structure(net: nn.Module) -> Structure:
    return discover(net, inputs(2, 5))


def test_zero_touches_the_penalized_entries_alone(net: nn.Module, structure: Structure) -> None:
    before = net.b.weight.clone()
    zero_(net, structure, {"a": [1, 6]})
    assert (net.b.weight[:, [1, 6]] == 0).all()
    assert torch.equal(net.b.weight[:, [0, 2, 3, 4, 5, 7]], before[:, [0, 2, 3, 4, 5, 7]])
    assert (net.a.weight != 0).all()


def test_zero_refuses_what_does_not_exist(net: nn.Module, structure: Structure) -> None:
    with pytest.raises(ValueError, match="no dependency group is named 'c'"):
        zero_(net, structure, {"c": [0]})
    with pytest.raises(ValueError, match="a has channels 0 to 7, got 8"):
        zero_(net, structure, {"a": [8]})
    with pytest.raises(ValueError, match="a has channels 0 to 7, got -1"):
        zero_(net, structure, {"a": [-1]})


def test_only_exact_zeros_count(net: nn.Module, structure: Structure) -> None:
    assert identify(net, structure).removable == {}
    zero_(net, structure, {"a": [2, 3]})
    with torch.no_grad():
        net.b.weight[0, 3] = 1e-300
        net.b.weight[:, 2] = -0.0
    assert identify(net, structure).removable == {"a": [2]}


def test_one_position_stays_where_all_are_zero(net: nn.Module, structure: Structure) -> None:
    zero_(net, structure, {"a": range(8)})
    support = identify(net, structure)
    assert support.held == {"a": [0]}
    assert support.removable == {"a": list(range(1, 8))}


def test_one_position_stays_where_two_groups_share_a_dimension() -> None:
    net = randomize_(
        Net(
            lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], 1).relu()),
            a=nn.Linear(5, 3), b=nn.Linear(5, 4), c=nn.Linear(7, 2),
        )
    )  # fmt: skip
    structure = discover(net, inputs(2, 5))
    zero_(net, structure, {group.name: range(group.channels) for group in structure.groups})
    support = identify(net, structure)
    # Each layer keeps a row of its own; together they keep a column of the reader.
    assert support.held == {"a": [0], "b": [0]}


def test_chosen_channels_are_found_again_exactly(net: nn.Module, structure: Structure) -> None:
    chosen = choose(structure, 0.3)
    zero_(net, structure, chosen)
    assert identify(net, structure).removable == chosen


def test_a_branch_without_weights_of_its_own_keeps_a_channel() -> None:
    def forward(m: Net, x: torch.Tensor) -> torch.Tensor:
        one, other = m.a(x).split([3, 5], 1)
        return m.c(torch.cat([m.norm(one).relu(), other], 1))

    net = Net(forward, a=nn.Conv2d(3, 8, 1), norm=nn.InstanceNorm2d(3), c=nn.Conv2d(8, 2, 1))
    example = inputs(2, 3, 4, 4)
    structure = discover(randomize_(net), example)
    zero_(net, structure, {"a": [0, 1, 2, 6]})
    support = identify(net, structure)
    assert support.held == {"a": [0]}
    assert support.removable == {"a": [1, 2, 6]}
    smaller, _ = remove(net, structure, support)
    assert_equal(call(net, example), call(smaller, example))


def test_channels_that_only_go_all_together_stay() -> None:
    def forward(m: Net, x: torch.Tensor) -> torch.Tensor:
        one, other = m.a(x).split([6, 2], 1)
        tile = one.unflatten(1, (2, 3))
        rows, columns = tile * x[:, :2, None], tile * x[:, None, :3]
        return m.b(torch.cat([rows.flatten(1), columns.flatten(1), other], 1))

    structure = discover(
        randomize_(Net(forward, a=nn.Linear(5, 8), b=nn.Linear(14, 2))), inputs(2, 5)
    )
    assert [group.channels for group in structure.groups] == [2]
    assert "they only go together, and nothing would be left" in {
        fixed.reason for fixed in structure.fixed
    }


def test_sizes_that_an_operator_takes_are_kept() -> None:
    """Torch's grouped product takes whole 16 bytes, so a mixture's experts keep eighths."""
    net = Net(
        lambda m, x: torch.nn.functional.grouped_mm(
            torch.nn.functional.grouped_mm(x, m.up, offs=m.ends).relu(), m.down, offs=m.ends
        ),
        up=parameter(2, 8, 24), down=parameter(2, 24, 8),
        ends=nn.Buffer(torch.tensor([3, 6], dtype=torch.int32)),
    )  # fmt: skip
    with torch.no_grad():
        for each in net.parameters():
            each.normal_(generator=torch.Generator().manual_seed(0))
    x = torch.randn(6, 8, dtype=torch.bfloat16)
    structure = discover(net.bfloat16(), x)
    (group,) = structure.groups
    assert group.channels == 24
    zero_(net, structure, {group.name: list(range(11))})
    support = identify(net, structure)
    # 13 of 24 would be left, and 16 are: three of the eleven stay.
    assert len(support.removable[group.name]) == 8
    assert len(support.held[group.name]) == 3
    assert sorted([*support.removable[group.name], *support.held[group.name]]) == list(range(11))
    smaller, _ = remove(net, structure, support)
    assert smaller.up.shape == (2, 8, 16)
    torch.testing.assert_close(smaller(x), net(x))
