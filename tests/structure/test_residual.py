"""Widths that RMSNorms normalise: fixed by default, and removed exactly where that is asked for."""

import pytest
import torch
from torch import Tensor, nn

from ramda_cli.structure import discover, identify, zero_
from ramda_cli.surgery import RemovalPlan, remove
from tests.structure.exactness import Net, assert_equal, call, choose, inputs, randomize_

IDS, MORE_IDS = torch.arange(10).view(2, 5), torch.arange(12).view(3, 4)


class WrittenOut(nn.Module):
    """An RMSNorm as transformers writes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = x.to(torch.float32)
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * y.to(x.dtype)


class Block(nn.Module):
    """A gated MLP on a residual stream, with attention of one value projection."""

    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.before, self.between = norm(8), norm(8)
        self.value, self.proj = nn.Linear(8, 6), nn.Linear(6, 8)
        self.gate, self.up, self.down = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.proj(self.value(self.before(x)).cumsum(1))
        y = self.between(x)
        return x + self.down(torch.nn.functional.silu(self.gate(y)) * self.up(y))


class Decoder(nn.Module):
    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 8)
        self.blocks = nn.Sequential(Block(norm), Block(norm))
        self.norm = norm(8)
        self.head = nn.Linear(8, 12, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embed(ids))))


def shrink(model: nn.Module, example: Tensor) -> tuple[nn.Module, nn.Module, RemovalPlan]:
    randomize_(model)
    structure = discover(model, example, residual=True)
    chosen = choose(structure, 0.4)
    zero_(model, structure, chosen)
    support = identify(model, structure)
    assert support.removable == chosen
    smaller, plan = remove(model, structure, support)
    return model, smaller, plan


def test_by_default_the_stream_stays() -> None:
    structure = discover(Decoder(nn.RMSNorm), IDS)
    assert all("embed" not in group.name for group in structure.groups)


@pytest.mark.parametrize("norm", [nn.RMSNorm, WrittenOut])
def test_a_residual_stream_shrinks_exactly(norm: type[nn.Module]) -> None:
    model, smaller, plan = shrink(Decoder(norm), IDS)
    assert smaller.embed.weight.shape == (12, 5)
    assert smaller.head.weight.shape == (12, 5)
    # Of 12 hidden units 5 go, whose gates are zero.
    assert smaller.blocks[0].gate.weight.shape == (7, 5)
    assert_equal(call(model, IDS), call(smaller, IDS), 1e-6 if norm is WrittenOut else 1e-12)
    assert_equal(call(model, MORE_IDS), call(smaller, MORE_IDS), 1e-6)
    assert plan.layout == "native"
    assert set(plan.submodules) == {
        "norm", "blocks.0.before", "blocks.0.between", "blocks.1.before", "blocks.1.between"
    }  # fmt: skip


def test_what_makes_the_stream_is_penalized_and_nothing_twice() -> None:
    structure = discover(Decoder(nn.RMSNorm), IDS, residual=True)
    stream = structure.group("embed")
    assert {(p.parameter, p.dim) for p in stream.penalized} == {
        ("embed.weight", 1),
        *((f"blocks.{i}.{name}.{leaf}", 0) for i in (0, 1) for name in ("proj", "down")
          for leaf in ("weight", "bias")),
    }  # fmt: skip
    hidden = structure.group("blocks.0.gate")
    assert {(p.parameter, p.dim) for p in hidden.penalized} == {
        ("blocks.0.gate.weight", 0),
        ("blocks.0.gate.bias", 0),
    }


def test_what_is_added_after_the_last_norm_is_zero_too() -> None:
    """A norm on a branch says nothing of the stream that the branch is added to."""
    net = Net(
        lambda m, x: m.out(m.stem(x) + m.norm(m.branch(x))),
        stem=nn.Linear(5, 8), branch=nn.Linear(5, 8), norm=nn.RMSNorm(8), out=nn.Linear(8, 2),
    )  # fmt: skip
    x = inputs(3, 5)
    model, smaller, _ = shrink(net, x)
    assert_equal(call(model, x), call(smaller, x))
    structure = discover(net.float(), x.float(), residual=True)
    (group,) = structure.groups
    assert {p.parameter for p in group.penalized} == {
        "stem.weight", "stem.bias", "branch.weight", "branch.bias"
    }  # fmt: skip


@pytest.mark.parametrize(
    "after",
    [lambda y: y + 1.0, lambda y: y.cos(), lambda y: y.softmax(-2), lambda y: y.exp()],
    ids=["shift", "cosine", "softmax", "exponential"],
)
def test_a_width_that_is_not_zero_where_its_makers_are_stays(after: object) -> None:
    net = Net(
        lambda m, x: m.out(m.norm(after(m.stem(x)))),  # type: ignore[operator]
        stem=nn.Linear(5, 8), norm=nn.RMSNorm(8), out=nn.Linear(8, 2),
    )  # fmt: skip
    assert discover(net, inputs(2, 3, 5).float(), residual=True).groups == ()


def test_a_layer_norm_keeps_its_width_and_says_why() -> None:
    structure = discover(Decoder(nn.LayerNorm), IDS, residual=True)
    assert all("embed" not in group.name for group in structure.groups)
    assert any("LayerNorm" in fixed.reason for fixed in structure.fixed)


def test_heads_in_front_of_a_norm_are_zero_where_their_values_are() -> None:
    """Zero queries give equal weights, not zero outputs: the values make a head."""

    def run(m: Net, x: Tensor) -> Tensor:
        q, k, v = (layer(x).view(*x.shape[:2], 4, 2).transpose(1, 2) for layer in (m.q, m.k, m.v))
        heads = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return m.out(m.norm(heads.transpose(1, 2).reshape(*x.shape[:2], 8)))

    net = Net(
        run, q=nn.Linear(5, 8), k=nn.Linear(5, 8), v=nn.Linear(5, 8), norm=nn.RMSNorm(8),
        out=nn.Linear(8, 2),
    )  # fmt: skip
    x, more = inputs(2, 3, 5), inputs(4, 3, 5, seed=2)
    model, smaller, _ = shrink(net, x)
    assert smaller.v.weight.shape == (4, 5)
    assert_equal(call(model, x), call(smaller, x))
    assert_equal(call(model, more), call(smaller, more))
