"""Operators that move elements: views, slices, concatenation, permutations."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.structure.exactness import Net, check_removal, indices_of, inputs, parameter

IMAGE = inputs(2, 3, 6, 6)
MORE_IMAGES = inputs(5, 3, 6, 6)
X = inputs(2, 5)
MORE = inputs(7, 5)


def test_concatenation_keeps_the_operands_apart() -> None:
    net = Net(
        lambda m, x: m.c(torch.cat([m.a(x), m.b(x), x], dim=1)),
        a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(3, 6, 1), c=nn.Conv2d(13, 2, 1),
    )  # fmt: skip
    removed = check_removal(net, IMAGE, MORE_IMAGES)
    assert removed.channels == {"a": 4, "b": 6}
    group = removed.structure.group("b")
    assert indices_of(group.coupled, "c.weight", 1) == [[i] for i in range(4, 10)]


def test_concatenating_weights() -> None:
    net = Net(
        lambda m, x: F.linear(m.a(x), torch.cat([m.w1, m.w2], dim=1)),
        a=nn.Linear(5, 8), w1=parameter(2, 3), w2=parameter(2, 5),
    )  # fmt: skip
    removed = check_removal(net, X, MORE)
    assert sorted(removed.channels.values()) == [3, 5]


@pytest.mark.parametrize(
    "halves",
    [
        lambda y: y.chunk(2, 1),
        lambda y: y.split(4, 1),
        lambda y: y.split([4, 4], 1),
        lambda y: y.tensor_split(2, 1),
        lambda y: (y[:, :4], y[:, 4:]),
        lambda y: (y.narrow(1, 0, 4), y.narrow(1, 4, 4)),
        lambda y: (y[:, ::2], y[:, 1::2]),
    ],
)
def test_halves_that_two_layers_read(halves: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        one, other = halves(m.a(x))
        return m.b(one) + m.c(other)

    net = Net(forward, a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(4, 2, 1), c=nn.Conv2d(4, 2, 1))
    removed = check_removal(net, IMAGE, MORE_IMAGES)
    assert sorted(removed.channels.values()) == [4, 4]


@pytest.mark.parametrize(
    "halves",
    [
        lambda y: y.unflatten(1, (2, 4)).unbind(1),
        lambda y: (y.unflatten(1, (2, 4))[:, 0], y.unflatten(1, (2, 4)).select(1, -1)),
    ],
)
def test_a_view_stays_a_rectangle(halves: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        one, other = halves(m.a(x))
        return m.b(one) + m.c(other)

    net = Net(forward, a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(4, 2, 1), c=nn.Conv2d(4, 2, 1))
    removed = check_removal(net, IMAGE, MORE_IMAGES)
    (group,) = removed.structure.groups
    assert indices_of(group.coupled, "a.weight", 0) == [[i, i + 4] for i in range(4)]


def test_a_slice_that_leaves_channels_unread() -> None:
    net = Net(lambda m, x: m.b(m.a(x)[:, 2:]), a=nn.Linear(5, 8), b=nn.Linear(6, 2))
    removed = check_removal(net, X, MORE)
    assert removed.channels == {"a": 6}
    (fixed,) = (f for f in removed.structure.fixed if f.name == "a")
    assert (fixed.channels, fixed.reason) == (2, "no weight reads these channels")


def test_stack_and_sum_over_the_stack() -> None:
    net = Net(
        lambda m, x: m.c(torch.stack([m.a(x), m.b(x)], dim=1).sum(1)),
        a=nn.Linear(5, 8), b=nn.Linear(5, 8), c=nn.Linear(8, 2),
    )  # fmt: skip
    removed = check_removal(net, X, MORE)
    assert removed.channels == {"a": 8}


def test_stack_that_is_flattened_keeps_the_operands_apart() -> None:
    net = Net(
        lambda m, x: m.c(torch.stack([m.a(x), m.b(x)], dim=2).flatten(1)),
        a=nn.Linear(5, 4), b=nn.Linear(5, 4), c=nn.Linear(8, 2),
    )  # fmt: skip
    removed = check_removal(net, X, MORE)
    assert indices_of(removed.structure.groups[0].coupled, "c.weight", 1)[0] in ([0], [0, 1])


def test_shuffled_channels_are_found_again() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.a(x)
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return m.b(y)

    net = Net(forward, a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 2, 1))
    removed = check_removal(net, IMAGE, MORE_IMAGES)
    (group,) = removed.structure.groups
    assert group.channels in (4, 8)  # the view may make a pair of channels the unit
    order = torch.arange(8).view(2, 4).t().flatten().tolist()
    made = indices_of(group.coupled, "a.weight", 0)
    read = indices_of(group.coupled, "b.weight", 1)
    for one, other in zip(made, read, strict=True):
        assert sorted(order[i] for i in other) == one


@pytest.mark.parametrize("written_out", [True, False])
def test_shufflenet_unit(written_out: bool) -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        left, right = m.stem(x).chunk(2, dim=1)
        y = torch.cat([left, m.conv(right)], dim=1)
        if not written_out:
            return m.out(F.channel_shuffle(y, 2))
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return m.out(y)

    net = Net(forward, stem=nn.Conv2d(3, 8, 1), conv=nn.Conv2d(4, 4, 1), out=nn.Conv2d(8, 2, 1))
    check_removal(net, IMAGE, MORE_IMAGES)


def test_flattening_space_makes_blocks() -> None:
    net = Net(lambda m, x: m.b(m.a(x).flatten(1)), a=nn.Conv2d(3, 8, 5), b=nn.Linear(32, 2))
    removed = check_removal(net, IMAGE, MORE_IMAGES, moves=True)
    (group,) = removed.structure.groups
    assert indices_of(group.coupled, "b.weight", 1)[2] == [8, 9, 10, 11]


@pytest.mark.parametrize(
    "there_and_back",
    [
        lambda y: y.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2),
        lambda y: y.transpose(1, -1).relu().transpose(1, -1),
        lambda y: y.movedim(1, 0).relu().movedim(0, 1),
        lambda y: y.flatten(2).mT.relu().mT.unflatten(2, (6, 6)),
        lambda y: y.contiguous().clone().unsqueeze(-1).squeeze(-1),
        lambda y: y.flip(2, 3),
        lambda y: y.roll((1, 2), (2, 3)),
        lambda y: y.repeat(1, 1, 2, 1),
        lambda y: y.repeat_interleave(2, dim=3),
    ],
)
def test_moving_channels_away_and_back(there_and_back: Callable[[Tensor], Tensor]) -> None:
    net = Net(lambda m, x: m.b(there_and_back(m.a(x))), a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 2, 1))
    assert check_removal(net, IMAGE, MORE_IMAGES).channels == {"a": 8}


@pytest.mark.parametrize(
    ("move", "order"),
    [
        (lambda y: y.flip(1), [7, 6, 5, 4, 3, 2, 1, 0]),
        (lambda y: y[:, torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])], [3, 1, 0, 2, 7, 6, 5, 4]),
        (
            lambda y: y.index_select(1, torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])),
            [3, 1, 0, 2, 7, 6, 5, 4],
        ),
    ],
)
def test_permutations(move: Callable[[Tensor], Tensor], order: list[int]) -> None:
    net = Net(lambda m, x: m.b(move(m.a(x))), a=nn.Linear(5, 8), b=nn.Linear(8, 2))
    removed = check_removal(net, X, MORE)
    (group,) = removed.structure.groups
    made = indices_of(group.coupled, "a.weight", 0)
    read = indices_of(group.coupled, "b.weight", 1)
    assert [[order[i]] for (i,) in read] == made


def test_an_index_may_repeat_and_skip() -> None:
    net = Net(
        lambda m, x: m.b(m.a(x)[:, torch.tensor([0, 0, 5, -1, 3])]),
        a=nn.Linear(5, 8), b=nn.Linear(5, 2),
    )  # fmt: skip
    removed = check_removal(net, X, MORE)
    assert sum(removed.channels.values()) == 4


@pytest.mark.parametrize(
    ("repeat", "first"),
    [
        (lambda y: y.repeat(1, 2), [0, 4]),
        (lambda y: y.tile((2,)), [0, 4]),
        (lambda y: y.repeat_interleave(2, dim=1), [0, 1]),
        (lambda y: y.unsqueeze(1).expand(-1, 2, -1).flatten(1), [0, 4]),
        (lambda y: y.unsqueeze(2).expand(y.shape[0], 4, 2).reshape(-1, 8), [0, 1]),
    ],
)
def test_copies_of_a_channel(repeat: Callable[[Tensor], Tensor], first: list[int]) -> None:
    net = Net(lambda m, x: m.b(repeat(m.a(x))), a=nn.Linear(5, 4), b=nn.Linear(8, 2))
    removed = check_removal(net, X, MORE)
    (group,) = removed.structure.groups
    assert group.channels == 4
    assert indices_of(group.coupled, "b.weight", 1)[0] == first


def test_pixel_shuffle_takes_whole_squares() -> None:
    net = Net(
        lambda m, x: m.b(F.pixel_shuffle(m.a(x), 2)), a=nn.Conv2d(3, 12, 1), b=nn.Conv2d(3, 2, 1)
    )
    removed = check_removal(net, IMAGE, MORE_IMAGES)
    (group,) = removed.structure.groups
    assert indices_of(group.coupled, "a.weight", 0)[1] == [4, 5, 6, 7]


def test_pixel_unshuffle_makes_blocks() -> None:
    net = Net(
        lambda m, x: m.b(F.pixel_unshuffle(m.a(x), 2)), a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(16, 2, 1)
    )
    removed = check_removal(net, IMAGE, MORE_IMAGES)
    assert indices_of(removed.structure.groups[0].coupled, "b.weight", 1)[1] == [4, 5, 6, 7]


def test_unfolded_patches_are_blocks() -> None:
    net = Net(
        lambda m, x: m.b(F.unfold(m.a(x), 2).transpose(1, 2)),
        a=nn.Conv2d(3, 4, 1), b=nn.Linear(16, 2),
    )  # fmt: skip
    removed = check_removal(net, IMAGE, MORE_IMAGES)
    assert indices_of(removed.structure.groups[0].coupled, "b.weight", 1)[1] == [4, 5, 6, 7]


@pytest.mark.parametrize(
    "product",
    [
        lambda y, w: y @ w,
        lambda y, w: torch.einsum("bi,io->bo", y, w),
        lambda y, w: torch.einsum("io,bi->bo", w, y),
        lambda y, w: torch.matmul(y.unsqueeze(1), w).squeeze(1),
        lambda y, w: torch.mm(y, w),
        lambda y, w: torch.bmm(y.unsqueeze(1), w.expand(y.shape[0], -1, -1)).squeeze(1),
        lambda y, w: torch.addmm(torch.ones(2, dtype=y.dtype), y, w),
        lambda y, w: F.linear(y, w.t()),
        lambda y, w: (w.t() @ y.unsqueeze(-1)).squeeze(-1),
    ],
)
def test_matrix_products(product: Callable[[Tensor, Tensor], Tensor]) -> None:
    net = Net(lambda m, x: product(m.a(x).relu(), m.w), a=nn.Linear(5, 8), w=parameter(8, 2))
    removed = check_removal(net, X, MORE)
    (group,) = removed.structure.groups
    assert group.channels == 8
    assert [(p.parameter, p.dim) for p in group.penalized] == [("w", 0)]
