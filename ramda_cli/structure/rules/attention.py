"""Fused attention: softmax(q kᵀ) v, with the head as the unit."""

from dataclasses import replace
from typing import Any

import numpy as np

from ramda_cli.structure.labels import Array, Couplings, Value
from ramda_cli.structure.primitives import contract, join, mix_value, take
from ramda_cli.structure.rules.registry import Output, rule


@rule("scaled_dot_product_attention")
def attention(
    couplings: Couplings, output: Output, query: Value, key: Value, value: Value,
    attn_mask: Value | None = None, dropout_p: float = 0.0, is_causal: bool = False, **_: Any,
) -> Value:  # fmt: skip
    """Contract q and k over the head dimension, mix over the keys, contract with v.

    With fewer key/value heads than query heads each of them is repeated, so that the key/value
    head is the unit.
    """
    key, value = (_repeat_heads(couplings, x, query) for x in (key, value))
    batch = "abcdefgh"[: query.ndim - 2]
    terms = [(query, batch + "te"), (key, batch + "se")]
    scores = contract(couplings, terms, batch + "ts", "the head dimension of q·k")
    if attn_mask is not None:
        scores = join(couplings, [scores, attn_mask], "drop")
    mixed = [-2, -1] if is_causal else [-1]
    softened = mix_value(couplings, scores, mixed, "a softmax over channels")
    # Zero scores give equal weights, not zero ones.
    layers = tuple(layer.without_origin() for layer in softened.layers)
    weights = replace(softened, layers=layers, from_parameters=False)
    return contract(couplings, [(weights, batch + "ts"), (value, batch + "sf")], batch + "tf",
                    "attention over channels")  # fmt: skip


def _repeat_heads(couplings: Couplings, x: Value, query: Value) -> Value:
    heads = query.shape[-3] if query.ndim > 3 else 1
    if query.ndim <= 3 or x.shape[-3] in (1, heads):
        return x
    axis = x.ndim - 3
    repeats = heads // x.shape[axis]

    def repeat(labels: Array) -> Array:
        return np.repeat(labels, repeats, axis) if labels.shape[axis] > 1 else labels

    return take(couplings, x, (*x.shape[:axis], heads, *x.shape[axis + 1 :]), repeat)
