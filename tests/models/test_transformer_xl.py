"""Transformer-XL: its attention as written, what it may see, and what can be taken out."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ramda_cli as ramda
from ramda_cli.config.schema import ModelConfig
from ramda_cli.errors import ModelError
from ramda_cli.models.loading import load_model
from ramda_cli.models.transformer_xl import (
    Layer,
    RelativeAttention,
    TransformerXL,
    _sinusoids,
)
from ramda_cli.structure.cost import CostModel

SMALL: dict[str, Any] = {
    "vocab_size": 60, "cutoffs": [15, 30], "d_model": 16, "n_layer": 2, "n_head": 4, "d_head": 6,
    "d_inner": 20, "tgt_len": 5, "mem_len": 4, "div_value": 2.0,
}  # fmt: skip


def small() -> TransformerXL:
    torch.manual_seed(0)
    model = TransformerXL(**SMALL).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn_like(parameter))
    return model


def inputs(length: int, memory: int, *, batch: int = 2) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(length)
    return {
        "tokens": torch.randint(60, (batch, length), generator=draws),
        "memory": torch.randn(batch, 2, memory, 16, generator=draws, dtype=torch.float64),
    }


@torch.no_grad()
def test_attention_is_the_formula_of_the_paper() -> None:
    torch.manual_seed(1)
    width, heads, each, tokens, kept = 8, 2, 3, 4, 3
    attention = RelativeAttention(width, heads, each, dropatt=0.0).double()
    attention.content_bias.normal_()
    attention.position_bias.normal_()
    x, memory = torch.randn(1, tokens, width).double(), torch.randn(1, kept, width).double()
    read = torch.cat([memory, x], dim=1)[0]
    query, key, value = attention.qkv(read).view(-1, 3, heads, each).unbind(1)
    angles = 10_000.0 ** -(torch.arange(0, width, 2).double() / width)
    gathered = torch.zeros(tokens, heads, each).double()
    for i in range(tokens):
        at = kept + i
        for h in range(heads):
            scores = []
            for j in range(at + 1):
                places = (at - j) * angles
                r = attention.r(torch.cat([places.sin(), places.cos()])).view(heads, each)[h]
                content = (query[at, h] + attention.content_bias[h]) @ key[j, h]
                distance = (query[at, h] + attention.position_bias[h]) @ r
                scores.append((content + distance) / math.sqrt(each))
            gathered[i, h] = torch.stack(scores).softmax(0) @ value[: at + 1, h]
    expected = attention.o(gathered.flatten(1))
    positions = _sinusoids(kept + tokens, width, like=x)
    assert torch.allclose(attention(x, memory, positions)[0], expected, atol=1e-12)


def normed(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    away = x - x.mean()
    return away / (away.square().mean() + 1e-5).sqrt() * norm.weight + norm.bias


def layer_of(layer: Layer, x: list[Tensor], memory: Tensor) -> list[Tensor]:
    """Return what a layer makes of the vectors of one segment, as the paper has it."""
    own, each, width = layer.attention, layer.attention.d_head, len(x[0])
    heads, read = len(own.content_bias), [*memory, *x]
    wq, wk, wv = own.qkv.weight.view(3, heads, each, width)
    wr = own.r.weight.view(heads, each, width)
    outputs = []
    for place, vector in enumerate(x, start=len(memory)):
        gathered = []
        for h in range(heads):
            q, scores = wq[h] @ vector, []
            for other in range(place + 1):
                angles = [(place - other) / 10_000 ** (2 * i / width) for i in range(width // 2)]
                r = torch.tensor([*map(math.sin, angles), *map(math.cos, angles)]).double()
                by_content = (q + own.content_bias[h]) @ (wk[h] @ read[other])
                by_distance = (q + own.position_bias[h]) @ (wr[h] @ r)
                scores.append((by_content + by_distance) / math.sqrt(each))
            weights = torch.stack(scores).softmax(0)
            gathered.append(sum(w * (wv[h] @ y) for w, y in zip(weights, read, strict=False)))
        attended = normed(layer.attention_norm, vector + own.o.weight @ torch.cat(gathered))
        inner = (layer.inner.weight @ attended + layer.inner.bias).clamp_min(0)
        outer = layer.outer.weight @ inner + layer.outer.bias
        outputs.append(normed(layer.norm, attended + outer))
    return outputs


def log_probabilities(softmax: nn.AdaptiveLogSoftmaxWithLoss, x: Tensor) -> Tensor:
    """Return those of all words: frequent ones, and those of each cluster times the cluster's."""
    clusters = len(softmax.tail)
    head = (softmax.head.weight @ x).log_softmax(0)
    frequent, rest = head[:-clusters], head[-clusters:]
    tails = [down_up[1].weight @ (down_up[0].weight @ x) for down_up in softmax.tail]
    within = [a + tail.log_softmax(0) for a, tail in zip(rest, tails, strict=True)]
    return torch.cat([frequent, *within])


@torch.no_grad()
@pytest.mark.parametrize(("tokens", "kept"), [(5, 4), (3, 4), (2, 0)])
def test_the_model_is_the_one_of_the_paper_written_out(tokens: int, kept: int) -> None:
    model, given = small(), inputs(tokens, kept)
    said, memory = model(**given)
    assert memory.shape == (2, 2, kept, 16)
    for example in range(2):
        x = [math.sqrt(16) * model.embedding.weight[word] for word in given["tokens"][example]]
        for number, layer in enumerate(model.layers):
            before = given["memory"][example, number]
            newest = torch.stack([*before, *x])[tokens:]
            assert torch.allclose(memory[example, number], newest, atol=1e-12)
            x = layer_of(layer, x, before)
        expected = torch.stack([log_probabilities(model.softmax, each) for each in x])
        assert torch.allclose(said[example], expected, atol=1e-10)


@torch.no_grad()
def test_no_word_is_known_before_it_comes_and_the_memory_is_what_was_read() -> None:
    model, given = small(), inputs(5, 4)
    said, memory = model(**given)
    assert torch.allclose(said.exp().sum(-1), torch.ones(2, 5).double())
    other = given["tokens"].clone()
    other[:, 3] = (other[:, 3] + 1) % 60
    changed, _ = model(other, given["memory"])
    assert torch.equal(changed[:, :3], said[:, :3])
    assert not torch.allclose(changed[:, 3:], said[:, 3:])
    # Of a memory of 4 before 5 words the last 4 of the words are left, layer by layer.
    assert torch.allclose(memory[:, 0], model.embedding(given["tokens"])[:, 1:] * 4)
    _, older = model(given["tokens"][:, :1], given["memory"])
    assert torch.equal(older[:, :, :3], given["memory"][:, :, 1:])


@torch.no_grad()
def test_targets_are_given_the_log_probability_that_all_words_have() -> None:
    model, given = small(), inputs(5, 4)
    targets = torch.randint(60, (2, 5))
    every, _ = model(**given)
    own, _ = model(**given, targets=targets)
    assert torch.allclose(own, every.gather(2, targets[..., None])[..., 0])


def test_half_precision_ends_before_the_softmax() -> None:
    model = small().float()
    given = {name: t.float() if t.is_floating_point() else t for name, t in inputs(5, 4).items()}
    targets = torch.randint(60, (2, 5), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        full, _ = model(**given, targets=targets)
        with torch.autocast("cpu", torch.bfloat16):
            every, _ = model(**given)
    assert every.dtype == torch.float32
    assert torch.allclose(every.logsumexp(-1), torch.zeros(2, 5), atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        said, memory = model(**given, targets=targets)
        said.sum().backward()
    assert said.dtype == memory.dtype == torch.float32
    assert torch.allclose(said, full, rtol=0.05, atol=0.1)
    assert not torch.equal(said, full)  # the layers are in half precision
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_no_gradient_flows_through_the_memory() -> None:
    model, given = small(), inputs(5, 4)
    _, memory = model(**given)
    assert not memory.requires_grad


def test_heads_and_hidden_units_are_taken_out_exactly(tmp_path: Path) -> None:
    model, given = small(), inputs(5, 4)
    structure = ramda.discover(model, given)
    channels = {group.name: group.channels for group in structure.groups}
    assert channels["layers.0.attention"] == 4
    assert channels["layers.1.inner"] == 20
    ramda.zero_(model, structure, {name: range(0, n, 2) for name, n in channels.items()})
    smaller, plan = ramda.remove(model, structure, ramda.identify(model, structure))
    assert plan.keeps_classes
    assert len(smaller.layers[0].attention.content_bias) == 2
    assert smaller.layers[1].inner.weight.shape == (10, 16)
    assert ramda.verify(model, smaller, given).passed
    longer = inputs(9, 7, batch=3)
    for one, other in zip(model(**longer), smaller(**longer), strict=True):
        assert torch.allclose(one, other, rtol=1e-12)


def test_macs_are_those_of_a_segment_with_its_memory() -> None:
    """Written out; longer than short examples are, and all words are predicted."""
    model = TransformerXL(**{**SMALL, "tgt_len": 20, "mem_len": 7})
    tokens, keys, width, heads = 20, 27, 16, 4 * 6
    attention = keys * width * 3 * heads + keys * width * heads + 3 * tokens * keys * heads
    layer = attention + tokens * heads * width + 2 * tokens * width * 20
    # 15 words and two clusters, of 15 words in a width of 8 and of 30 in a width of 4.
    softmax = width * (15 + 2) + (width * 8 + 8 * 15) + (width * 4 + 4 * 30)
    cost = CostModel(ramda.discover(model, model.example_inputs()))
    assert cost.size().macs == 2 * layer + tokens * softmax


def test_the_settings_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        model = TransformerXL()
    sizes = {name: tuple(p.shape) for name, p in model.layers[0].named_parameters()}
    assert len(model.layers) == 16
    assert sizes["attention.qkv.weight"] == (3 * 8 * 64, 512)
    assert sizes["inner.weight"] == (2048, 512)
    assert model.no_memory(3).shape == (3, 16, 192, 512)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"depth": 3}, "depth"),
     ({"d_model": 15}, "d_model must be even, for sines and cosines, got 15"),
     ({"tgt_len": 0}, "tgt_len must be a whole number of at least 1, got 0"),
     ({"tgt_len": "5"}, "tgt_len must be a whole number of at least 1, got '5'"),
     ({"mem_len": -1}, "mem_len must be a whole number of at least 0, got -1"),
     ({"mem_len": 2.5}, "mem_len must be a whole number of at least 0, got 2.5"),
     ({"n_head": 0}, "n_head must be a whole number of at least 1, got 0"),
     ({"n_layer": True}, "n_layer must be a whole number of at least 1, got True"),
     ({"d_head": None}, "d_head must be a whole number of at least 1, got None"),
     ({"d_inner": -3}, "d_inner must be a whole number of at least 1, got -3"),
     ({"vocab_size": 0}, "vocab_size must be a whole number of at least 2, got 0"),
     ({"cutoffs": [70]}, "from 1 to 59, got [70]"),
     ({"cutoffs": []}, "got []"), ({"cutoffs": [30, 15]}, "got [30, 15]"),
     ({"cutoffs": [1.5]}, "got [1.5]"), ({"cutoffs": 15}, "got 15"),
     ({"div_value": 5}, "which is 16 / div_value^2, got 5"),
     ({"div_value": 1e300}, "which is 16 / div_value^2, got 1e+300"),
     ({"div_value": 0.5}, "div_value must be a number from 1 on, got 0.5"),
     ({"div_value": float("nan")}, "got nan"), ({"div_value": "2"}, "got '2'"),
     ({"dropout": 1.0}, "dropout must be in [0, 1), got 1.0"),
     ({"dropatt": "0"}, "dropatt must be in [0, 1), got '0'")],
)  # fmt: skip
def test_wrong_arguments_are_told(wrong: dict[str, object], message: str) -> None:
    config = ModelConfig(name="transformer-xl", arguments={**SMALL, **wrong})
    with pytest.raises(ModelError) as caught:
        load_model(config)
    assert str(caught.value).startswith("transformer-xl cannot be built with such arguments: ")
    assert message in str(caught.value)
    assert caught.value.hint


def test_the_smallest_arguments_do() -> None:
    least = {"d_model": 2, "n_layer": 1, "n_head": 1, "d_head": 1, "d_inner": 1, "vocab_size": 2,
             "cutoffs": (1,), "tgt_len": 1, "mem_len": 0, "div_value": 2}  # fmt: skip
    loaded = load_model(ModelConfig(name="transformer-xl", arguments=least))
    example: Any = loaded.example_inputs
    said, memory = loaded.module(**example)
    assert said.shape == (2, 1, 2)
    assert memory.shape == (2, 1, 0, 2)
