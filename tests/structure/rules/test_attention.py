"""Attention: the head is the unit, however it is written."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ramda_cli.structure import discover
from tests.structure.exactness import (
    Net,
    check_removal,
    indices_of,
    inputs,
    parameter,
    randomize_,
)

TOKENS = inputs(2, 5, 8)
MORE = inputs(3, 5, 8)
HEADS, WIDTH = 4, 3


def manual(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1) / math.sqrt(WIDTH)).softmax(dim=-1) @ v


def with_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = torch.einsum("bhtd,bhsd->bhts", q, k).mul(WIDTH**-0.5).softmax(dim=-1)
    return torch.einsum("bhts,bhsd->bhtd", weights, v)


@pytest.mark.parametrize("attend", [F.scaled_dot_product_attention, manual, with_einsum])
@pytest.mark.parametrize("layout", ["(three heads width)", "(heads three width)"])
def test_packed_attention(attend: object, layout: str) -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        if layout == "(three heads width)":
            q, k, v = m.qkv(x).reshape(b, t, 3, HEADS, WIDTH).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q, k, v = m.qkv(x).view(b, t, HEADS, 3 * WIDTH).transpose(1, 2).chunk(3, dim=-1)
        y = attend(q, k, v)  # type: ignore[operator]
        return m.proj(y.transpose(1, 2).reshape(b, t, HEADS * WIDTH))

    net = Net(forward, qkv=nn.Linear(8, 3 * HEADS * WIDTH), proj=nn.Linear(HEADS * WIDTH, 8))
    removed = check_removal(net, TOKENS, MORE)
    assert removed.channels == {"qkv": HEADS}
    (group,) = removed.structure.groups
    assert indices_of(group.coupled, "proj.weight", 1)[1] == [3, 4, 5]
    assert len(indices_of(group.coupled, "qkv.weight", 0)[0]) == 3 * WIDTH


@pytest.mark.parametrize("causal", [True, False])
def test_separate_projections(causal: bool) -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = (layer(x).view(b, t, HEADS, WIDTH).transpose(1, 2) for layer in (m.q, m.k, m.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return m.proj(y.transpose(1, 2).flatten(2))

    inner = HEADS * WIDTH
    net = Net(
        forward, q=nn.Linear(8, inner), k=nn.Linear(8, inner), v=nn.Linear(8, inner),
        proj=nn.Linear(inner, 8),
    )  # fmt: skip
    assert check_removal(net, TOKENS, MORE).channels == {"q": HEADS}


def test_merged_batch_and_heads() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = (
            layer(x).view(b, t, HEADS, WIDTH).transpose(1, 2).reshape(b * HEADS, t, WIDTH)
            for layer in (m.q, m.k, m.v)
        )
        y = torch.bmm(torch.bmm(q, k.transpose(1, 2)).softmax(-1), v)
        return m.proj(y.view(b, HEADS, t, WIDTH).transpose(1, 2).reshape(b, t, HEADS * WIDTH))

    inner = HEADS * WIDTH
    net = Net(
        forward, q=nn.Linear(8, inner), k=nn.Linear(8, inner), v=nn.Linear(8, inner),
        proj=nn.Linear(inner, 8),
    )  # fmt: skip
    removed = check_removal(net, TOKENS, MORE)
    assert removed.channels == {"q": HEADS}
    assert removed.plan.layout == "graph"


@pytest.mark.parametrize("fused", [True, False])
def test_query_heads_that_share_a_key_head_go_together(fused: bool) -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q = m.q(x).view(b, t, HEADS, WIDTH).transpose(1, 2)
        k, v = (layer(x).view(b, t, 2, WIDTH).transpose(1, 2) for layer in (m.k, m.v))
        if fused:
            y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        else:
            y = manual(q, k.repeat_interleave(2, dim=1), v.repeat_interleave(2, dim=1))
        return m.proj(y.transpose(1, 2).flatten(2))

    net = Net(
        forward, q=nn.Linear(8, HEADS * WIDTH), k=nn.Linear(8, 2 * WIDTH),
        v=nn.Linear(8, 2 * WIDTH), proj=nn.Linear(HEADS * WIDTH, 8),
    )  # fmt: skip
    removed = check_removal(net, TOKENS, MORE)
    assert removed.channels == {"q": 2}
    (group,) = removed.structure.groups
    assert indices_of(group.coupled, "q.weight", 0)[1] == [6, 7, 8, 9, 10, 11]
    assert indices_of(group.coupled, "k.weight", 0)[1] == [3, 4, 5]


def test_a_mask_of_the_input_changes_nothing() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = m.qkv(x).view(b, t, 3, HEADS, WIDTH).permute(2, 0, 3, 1, 4).unbind(0)
        mask = (x[:, :, 0] > -10)[:, None, None, :]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return m.proj(y.transpose(1, 2).flatten(2))

    net = Net(forward, qkv=nn.Linear(8, 3 * HEADS * WIDTH), proj=nn.Linear(HEADS * WIDTH, 8))
    assert check_removal(net, TOKENS, MORE).channels == {"qkv": HEADS}


def test_a_learned_query_reads_the_keys() -> None:
    net = Net(
        lambda m, x: m.proj(
            F.scaled_dot_product_attention(m.query.expand(x.shape[0], -1, -1), m.k(x), m.v(x))
        ),
        query=parameter(1, 1, 6), k=nn.Linear(8, 6), v=nn.Linear(8, 4), proj=nn.Linear(4, 2),
    )  # fmt: skip
    removed = check_removal(net, TOKENS, MORE)
    assert removed.channels == {"k": 6, "v": 4}
    assert removed.structure.group("k").penalized[0].parameter == "query"


@pytest.mark.parametrize("causal", [True, False])
def test_positions_matter_to_causal_attention(causal: bool) -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        queries = m.tokens(x.mT).mT
        y = F.scaled_dot_product_attention(queries, x, x, is_causal=causal)
        return m.proj(y.mT)

    net = Net(forward, tokens=nn.Linear(5, 6), proj=nn.Linear(6, 2))
    if causal:
        assert discover(randomize_(net), TOKENS).groups == ()
    else:
        assert check_removal(net, TOKENS, MORE).channels == {"tokens": 6}


def test_attention_of_one_head_shrinks_inside_the_head() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        return m.proj(F.scaled_dot_product_attention(m.q(x), m.k(x), m.v(x)))

    net = Net(
        forward, q=nn.Linear(8, 6), k=nn.Linear(8, 6), v=nn.Linear(8, 6), proj=nn.Linear(6, 8)
    )
    removed = check_removal(net, TOKENS, MORE)
    assert removed.channels == {"v": 6}
    (reason,) = removed.reasons("q")
    assert "weight" in reason


def test_multihead_attention_module() -> None:
    net = Net(lambda m, x: m.attention(x, x, x)[0], attention=nn.MultiheadAttention(8, 4))
    removed = check_removal(net, TOKENS, inputs(2, 5, 8, seed=2), moves=False)
    assert 4 in removed.channels.values()


def test_positions_gathered_within_each_head_keep_the_heads() -> None:
    """As in DeBERTa: scores against relative positions, picked per head and query."""

    def run(m: Net, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = (
            layer(x).view(batch, length, 4, 3).transpose(1, 2).reshape(-1, length, 3)
            for layer in (m.q, m.k, m.v)
        )
        relative = m.k(m.table).view(-1, 4, 3).transpose(0, 1).repeat(batch, 1, 1)
        scores = q @ relative.transpose(-1, -2)
        places = torch.arange(length)[:, None] - torch.arange(length) + length - 1
        picked = scores.gather(-1, places.expand(batch * 4, length, length))
        weights = (q @ k.transpose(-1, -2) + picked).softmax(-1)
        y = (weights @ v).view(batch, 4, length, 3).transpose(1, 2).reshape(batch, length, 12)
        return m.out(y)

    net = Net(
        run, q=nn.Linear(8, 12), k=nn.Linear(8, 12), v=nn.Linear(8, 12), out=nn.Linear(12, 2),
        table=parameter(9, 8),
    )  # fmt: skip
    removed = check_removal(net, inputs(2, 5, 8), inputs(3, 5, 8, seed=2), moves=False)
    assert removed.channels == {"q": 4}
