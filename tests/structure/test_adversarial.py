"""Modules that are easy to get wrong: none may change its outputs, whatever is removed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ramda_cli.structure import discover, identify, zero_
from ramda_cli.surgery import remove
from tests.structure.exactness import (
    Net,
    assert_equal,
    call,
    check_removal,
    choose,
    inputs,
    parameter,
    randomize_,
)

MAPS, MORE_MAPS = inputs(2, 3, 6, 6), inputs(5, 3, 6, 6, seed=2)
ROWS, MORE_ROWS = inputs(4, 6), inputs(7, 6, seed=2)


def test_a_module_called_twice() -> None:
    net = Net(
        lambda m, x: m.out(m.shared(m.shared(m.into(x)).relu()).relu()),
        into=nn.Linear(6, 8), shared=nn.Linear(8, 8), out=nn.Linear(8, 2),
    )  # fmt: skip
    removed = check_removal(net, ROWS, MORE_ROWS, moves=False)
    # What the shared layer reads and writes is one width, which is removed as one.
    assert removed.channels == {"into": 8}


def test_an_embedding_tied_to_the_head() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(11, 8)
            self.mix = nn.Linear(8, 8)
            self.head = nn.Linear(8, 11, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.mix(self.embed(ids)).relu())

    ids = torch.arange(10).view(2, 5)
    removed = check_removal(Tied(), ids, ids + 1, moves=False)
    assert removed.smaller.head.weight is removed.smaller.embed.weight
    assert sum(removed.channels.values()) == 8


def test_a_parameter_that_belongs_to_no_layer() -> None:
    net = Net(
        lambda m, x: m.out((m.into(x) * m.scale + m.shift).relu() @ m.matrix),
        into=nn.Linear(6, 8), scale=parameter(8), shift=parameter(8), matrix=parameter(8, 5),
        out=nn.Linear(5, 2),
    )  # fmt: skip
    removed = check_removal(net, ROWS, MORE_ROWS, moves=False)
    assert removed.channels == {"into": 8, "matrix": 5}


def test_channels_split_unevenly() -> None:
    def run(m: Net, x: Tensor) -> Tensor:
        a, b, c = m.into(x).split([1, 5, 2], dim=1)
        return m.one(a) + m.five(b.relu()) + m.two(c.sigmoid())

    net = Net(
        run, into=nn.Linear(6, 8), one=nn.Linear(1, 3), five=nn.Linear(5, 3), two=nn.Linear(2, 3)
    )
    removed = check_removal(net, ROWS, MORE_ROWS)
    assert sorted(removed.channels.values()) == [2, 5]


def test_a_concatenation_that_a_grouped_convolution_reads() -> None:
    net = Net(
        lambda m, x: m.out(m.grouped(torch.cat([m.a(x), m.b(x)], 1)).relu()),
        a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(3, 8, 1), grouped=nn.Conv2d(12, 6, 3, groups=3),
        out=nn.Conv2d(6, 2, 1),
    )  # fmt: skip
    removed = check_removal(net, MAPS, MORE_MAPS, moves=False)
    assert removed.channels


def test_a_reshape_that_interleaves_channels() -> None:
    def run(m: Net, x: Tensor) -> Tensor:
        y = m.into(x)
        y = y.view(-1, 2, 4).transpose(1, 2).reshape(-1, 8)
        return m.out(y.relu())

    net = Net(run, into=nn.Linear(6, 8), out=nn.Linear(8, 2))
    removed = check_removal(net, ROWS, MORE_ROWS)
    assert sum(removed.channels.values()) > 0


def test_a_channel_dimension_as_large_as_the_batch() -> None:
    # Eight channels, eight rows: the transposed product must not take one for the other.
    def run(m: Net, x: Tensor) -> Tensor:
        y = m.into(x)
        return m.out(y.relu()) + (y @ y.t()).sum(dim=1, keepdim=True)

    net = Net(run, into=nn.Linear(6, 8), out=nn.Linear(8, 2))
    square, other = inputs(8, 6), inputs(8, 6, seed=2)
    structure = discover(randomize_(net), square)
    assert structure.groups == ()
    plain = Net(lambda m, x: m.out(m.into(x).relu()), into=nn.Linear(6, 8), out=nn.Linear(8, 2))
    assert check_removal(plain, square, other, MORE_ROWS).channels == {"into": 8}


def test_operations_in_place_on_views() -> None:
    def run(m: Net, x: Tensor) -> Tensor:
        y = m.into(x)
        y[:, :4].mul_(2.0)
        y[:, 4:].relu_()
        half = y[:, 2:6]
        half += 1.0
        return m.out(y)

    net = Net(run, into=nn.Linear(6, 8), out=nn.Linear(8, 2))
    randomize_(net)
    structure = discover(net, ROWS)
    chosen = choose(structure, 0.5)
    zero_(net, structure, chosen)
    smaller, _ = remove(net, structure, identify(net, structure))
    assert_equal(call(net, MORE_ROWS), call(smaller, MORE_ROWS))


@pytest.mark.parametrize(
    "product",
    [
        lambda m, x: torch.einsum("bi,oi->bo", m.into(x), m.weight),
        lambda m, x: torch.einsum("bi,bi,oi->bo", m.into(x), m.into(x), m.weight),
        lambda m, x: torch.einsum("bi,oi,oi->bo", m.into(x), m.weight, m.weight),
        lambda m, x: torch.einsum("...i,oi->...o", m.into(x), m.weight),
    ],
    ids=["plain", "input-twice", "weight-twice", "ellipsis"],
)
def test_einsum_with_repeated_operands(product: Callable[[Net, Tensor], Tensor]) -> None:
    net = Net(product, into=nn.Linear(6, 8), weight=parameter(3, 8))
    removed = check_removal(net, ROWS, MORE_ROWS, moves=False)
    assert removed.channels == {"into": 8}


def test_a_diagonal_is_not_understood_and_stays() -> None:
    def run(m: Net, x: Tensor) -> Tensor:
        y = m.into(x).view(-1, 4, 4)
        return m.out(torch.einsum("bii->bi", y))

    structure = discover(Net(run, into=nn.Linear(6, 16), out=nn.Linear(4, 2)), ROWS.float())
    into = [group for group in structure.groups if group.name == "into"]
    assert into == []


def test_several_inputs_and_outputs() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(3, 8)
            self.first, self.second = nn.Linear(8, 2), nn.Linear(8, 4)

        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            z = (self.a(x) + self.b(y)).relu()
            return self.first(z), {"second": self.second(z)}

    pair = (ROWS, inputs(4, 3, seed=5))
    removed = check_removal(Both(), pair, moves=False)
    assert removed.channels == {"a": 8}


def test_parameters_that_nothing_uses() -> None:
    net = Net(
        lambda m, x: m.out(m.into(x).relu()),
        into=nn.Linear(6, 8), out=nn.Linear(8, 2), spare=nn.Linear(5, 7), alone=parameter(9),
    )  # fmt: skip
    removed = check_removal(net, ROWS, MORE_ROWS, moves=False)
    assert removed.channels == {"into": 8}
    assert removed.smaller.get_submodule("spare").weight.shape == (7, 5)


def test_feature_maps_of_one_pixel() -> None:
    net = Net(
        lambda m, x: m.out(m.b(m.a(x).relu()).flatten(1)),
        a=nn.Conv2d(3, 8, 6), b=nn.Conv2d(8, 8, 1, groups=8), out=nn.Linear(8, 2),
    )  # fmt: skip
    removed = check_removal(net, MAPS, MORE_MAPS, moves=False)
    assert removed.channels == {"a": 8}


def test_groups_of_one_channel_stay() -> None:
    net = Net(
        lambda m, x: m.out(m.one(m.into(x).relu()).relu()),
        into=nn.Linear(6, 8), one=nn.Linear(8, 1), out=nn.Linear(1, 2),
    )  # fmt: skip
    removed = check_removal(net, ROWS, MORE_ROWS)
    assert removed.channels == {"into": 8}


@pytest.mark.parametrize("seed", range(3))
def test_a_row_of_zeros_by_luck_is_not_taken_for_a_removed_channel(seed: int) -> None:
    """Zero weights in front of a channel do not make it removable: only zero readers do."""
    net = Net(lambda m, x: m.out(m.into(x).relu()), into=nn.Linear(6, 8), out=nn.Linear(8, 2))
    randomize_(net, seed)
    structure = discover(net, ROWS)
    with torch.no_grad():
        net.into.weight[2] = 0.0
    assert identify(net, structure).removable == {}
