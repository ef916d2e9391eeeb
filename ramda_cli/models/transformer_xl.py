"""Transformer-XL (Dai et al., ACL 2019, arXiv:1901.02860): attention beyond the segment.

Each layer attends to the segment and to what it was given for the segment before, the memory; where
they stand to each other is told by relative positions. Words are predicted by an adaptive softmax
(Grave et al., ICML 2017, arXiv:1609.04309), torch's own. Embeddings and softmax share no weights.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ramda_cli.models.arguments import (
    is_number,
    is_whole,
    require_counts,
    require_probabilities,
)

_INITIAL_STD = 0.02


class RelativeAttention(nn.Module):
    """Attention to a segment and its memory, by content and by distance.

        score(i, j) = ((q_i + u)·k_j + (q_i + v)·r_{i-j}) / √d_head,   r = W_r sinusoid(i - j)

    The number of heads is that of the weights.

    Args:
        d_model: width of what it reads and adds to.
        n_head, d_head: heads and their width.
        dropatt: probability that an attention weight is dropped.
    """

    def __init__(self, d_model: int, n_head: int, d_head: int, *, dropatt: float) -> None:
        super().__init__()
        self.d_head = d_head
        self.qkv = nn.Linear(d_model, 3 * n_head * d_head, bias=False)
        self.r = nn.Linear(d_model, n_head * d_head, bias=False)
        self.o = nn.Linear(n_head * d_head, d_model, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(n_head, d_head))
        self.position_bias = nn.Parameter(torch.zeros(n_head, d_head))
        self.dropatt = nn.Dropout(dropatt)

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        memory: Float[Tensor, "b m d"],
        positions: Float[Tensor, "m+t d"],
    ) -> Float[Tensor, "b t d"]:
        """Return what each token gathers; `positions` are sinusoids of falling distances."""
        tokens, keys = x.shape[1], positions.shape[0]
        read = torch.cat([memory, x], dim=1)
        q, k, v = self.qkv(read).unflatten(2, (3, -1, self.d_head)).unbind(2)
        r = self.r(positions).unflatten(1, (-1, self.d_head))
        q = q[:, -tokens:]
        content = torch.einsum("bihd,bjhd->bhij", q + self.content_bias, k)
        distance = torch.einsum("bihd,jhd->bhij", q + self.position_bias, r)
        scores = (content + _shifted(distance)) / math.sqrt(self.d_head)
        ones = torch.ones(tokens, keys, dtype=torch.bool, device=x.device)
        ahead = ones.triu(1 + keys - tokens)
        weights = self.dropatt(scores.masked_fill(ahead, -torch.inf).softmax(-1))
        return self.o(torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2))


class Layer(nn.Module):
    """LN(x + attention), then LN(x + W₂ relu(W₁ x))."""

    def __init__(
        self, d_model: int, n_head: int, d_head: int, d_inner: int, *, dropout: float,
        dropatt: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.attention = RelativeAttention(d_model, n_head, d_head, dropatt=dropatt)
        self.attention_norm = nn.LayerNorm(d_model)
        self.inner = nn.Linear(d_model, d_inner)
        self.outer = nn.Linear(d_inner, d_model)
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        memory: Float[Tensor, "b m d"],
        positions: Float[Tensor, "m+t d"],
    ) -> Float[Tensor, "b t d"]:
        """Return the layer's output for the segment."""
        x = self.attention_norm(x + self.dropout(self.attention(x, memory, positions)))
        inner = self.dropout(self.inner(x).relu())
        return self.norm(x + self.dropout(self.outer(inner)))


class TransformerXL(nn.Module):
    """A language model over words, which is given what it kept of the words before.

    The defaults are the base model for WikiText-103 of the RAMDA paper.

    Args:
        vocab_size: words, the most frequent first.
        cutoffs: word numbers at which the softmax goes over to rarer words; increasing.
        d_model, n_layer, n_head, d_head, d_inner: widths and depths.
        tgt_len, mem_len: words of a segment and of the memory.
        div_value: by which power of it rarer words have narrower softmax layers.
        dropout, dropatt: probabilities, of values and of attention weights.

    Raises:
        ValueError: one is of another type or out of range.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 267_735,
        cutoffs: Sequence[int] = (19_997, 39_997, 199_997),
        d_model: int = 512,
        n_layer: int = 16,
        n_head: int = 8,
        d_head: int = 64,
        d_inner: int = 2048,
        tgt_len: int = 192,
        mem_len: int = 192,
        div_value: float = 1.0,
        dropout: float = 0.1,
        dropatt: float = 0.0,
    ) -> None:
        super().__init__()
        require_counts(
            d_model=d_model, n_layer=n_layer, n_head=n_head, d_head=d_head, d_inner=d_inner,
            tgt_len=tgt_len,
        )  # fmt: skip
        require_counts(at_least=2, vocab_size=vocab_size)
        require_counts(at_least=0, mem_len=mem_len)
        if d_model % 2:
            raise ValueError(f"d_model must be even, for sines and cosines, got {d_model}")
        _require_softmax(vocab_size, cutoffs, d_model, div_value=div_value)
        require_probabilities(dropout=dropout, dropatt=dropatt)
        self.tgt_len, self.mem_len = tgt_len, mem_len
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.layers = nn.ModuleList(
            Layer(d_model, n_head, d_head, d_inner, dropout=dropout, dropatt=dropatt)
            for _ in range(n_layer)
        )
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(
            d_model, vocab_size, list(cutoffs), div_value=div_value
        )
        self.dropout = nn.Dropout(dropout)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=_INITIAL_STD)

    def forward(
        self,
        tokens: Int64[Tensor, "b t"],
        memory: Float[Tensor, "b layers m d"],
        targets: Int64[Tensor, "b t"] | None = None,
    ) -> tuple[Float[Tensor, "b t *words"], Float[Tensor, "b layers m d"]]:
        """Predict the word that follows each.

        Args:
            tokens: word numbers.
            memory: what the last call returned, or zeros.
            targets: the words that follow; those below 0 are any.

        Returns:
            Log probabilities, of all words or of the targets alone; and the memory for what comes
            next, through which no gradient flows.
        """
        kept, d_model = memory.shape[2], self.embedding.weight.shape[1]
        x = self.dropout(self.embedding(tokens) * math.sqrt(d_model))
        positions = self.dropout(_sinusoids(kept + tokens.shape[1], d_model, like=x))
        read = []
        for number, layer in enumerate(self.layers):
            before = memory[:, number]
            read.append(torch.cat([before, x], dim=1)[:, x.shape[1] :].detach())
            x = layer(x, before, positions)
        x, kind = self.dropout(x), x.device.type
        if not torch.is_autocast_enabled(kind):
            return self._said(x, targets), torch.stack(read, dim=1)
        # Under autocast torch's adaptive softmax mixes types, which it refuses.
        with torch.autocast(kind, enabled=False):
            return self._said(x.float(), targets), torch.stack(read, dim=1)

    def _said(
        self, x: Float[Tensor, "b t d"], targets: Int64[Tensor, "b t"] | None
    ) -> Float[Tensor, "b t *words"]:
        flat = x.flatten(0, 1)
        if targets is None:
            return self.softmax.log_prob(flat).unflatten(0, x.shape[:2])
        output: Tensor = self.softmax(flat, targets.clamp_min(0).flatten()).output
        return output.view_as(targets)

    def no_memory(self, batch: int) -> Float[Tensor, "b layers m d"]:
        """Return the memory of texts that begin."""
        device, width = self.embedding.weight.device, self.embedding.weight.shape[1]
        return torch.zeros((), device=device).expand(batch, len(self.layers), self.mem_len, width)

    def example_inputs(self) -> dict[str, Any]:
        """Return two segments with a memory, as they are when the model is evaluated."""
        draws, words = torch.Generator().manual_seed(0), self.embedding.num_embeddings
        return {
            "tokens": torch.randint(words, (2, self.tgt_len), generator=draws),
            "memory": torch.randn(self.no_memory(2).shape, generator=draws),
        }


def _shifted(scores: Float[Tensor, "b h t k"]) -> Float[Tensor, "b h t k"]:
    """Move row i of t by t - 1 - i to the left, from falling distances to places.

    What comes in from the right lies ahead of the token.
    """
    batch, heads, tokens, keys = scores.shape
    padded = F.pad(scores, (1, 0)).reshape(batch, heads, keys + 1, tokens)
    return padded[:, :, 1:].reshape(batch, heads, tokens, keys)


def _sinusoids(length: int, width: int, *, like: Tensor) -> Float[Tensor, "length width"]:
    """Return sines and cosines of the distances length-1 … 0."""
    distances = torch.arange(length - 1, -1, -1, device=like.device, dtype=like.dtype)
    exponents = torch.arange(0, width, 2, device=like.device, dtype=like.dtype) / width
    angles = distances[:, None] * 10_000.0**-exponents
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _require_softmax(vocab_size: int, cutoffs: object, d_model: int, *, div_value: float) -> None:
    listed = list(cutoffs) if isinstance(cutoffs, list | tuple) else []
    bounds = [0, *listed, vocab_size]
    whole = all(map(is_whole, listed))
    if not listed or not whole or any(b <= a for a, b in itertools.pairwise(bounds)):
        raise ValueError(
            f"cutoffs must be a list of whole numbers that increase, from 1 to {vocab_size - 1},"
            f" got {cutoffs!r}"
        )
    if not is_number(div_value) or not div_value >= 1:
        raise ValueError(f"div_value must be a number from 1 on, got {div_value!r}")
    width = float(d_model)
    for _ in listed:
        width /= div_value
    if width < 1:
        raise ValueError(
            "div_value must leave the rarest words a width of at least 1, which is"
            f" {d_model} / div_value^{len(listed)}, got {div_value!r}"
        )
