"""Products that sum over a dimension: linear, matrix products, einsum."""

from collections.abc import Sequence
from typing import Any

from ramda_cli.structure.einsum import einsum_names
from ramda_cli.structure.labels import Couplings, Value
from ramda_cli.structure.primitives import contract, join, mix_value
from ramda_cli.structure.rules.registry import Output, rule

_BATCH = "abcdefgh"
_GROUPED_ALIGNMENT = 8
"""Torch's grouped product takes rows of whole 16 bytes; that many are 8 numbers of 2 bytes."""


@rule("linear")
def linear(
    couplings: Couplings, output: Output, x: Value, weight: Value, bias: Value | None = None
) -> Value:
    """Return x Wᵀ + b: input channels are consumed, output channels are the weight's rows."""
    lead = _BATCH[: x.ndim - 1]
    product = contract(couplings, [(x, lead + "i"), (weight, "oi")], lead + "o", "linear")
    return product if bias is None else join(couplings, [product, bias], "sum")


@rule("mm", "bmm", "matmul", "mv", "dot")
def matmul(couplings: Couplings, output: Output, x: Value, other: Value) -> Value:
    """Multiply matrices; leading dimensions broadcast."""
    batch = max(x.ndim, other.ndim) - 2
    names = [_BATCH[max(0, batch - (value.ndim - 2)) : max(0, batch)] for value in (x, other)]
    left = names[0] + ("mk" if x.ndim > 1 else "k")
    right = names[1] + ("kn" if other.ndim > 1 else "k")
    result = max(names, key=len) + ("m" if x.ndim > 1 else "") + ("n" if other.ndim > 1 else "")
    return contract(couplings, [(x, left), (other, right)], result, "a matrix product")


@rule("addmm", "baddbmm")
def addmm(
    couplings: Couplings, output: Output, bias: Value, x: Value, other: Value, **_: Any
) -> Value:
    """Multiply matrices and add."""
    return join(couplings, [matmul(couplings, output, x, other), bias], "drop")


@rule("_grouped_mm", "transformers::grouped_mm_fallback")
def grouped_mm(
    couplings: Couplings, output: Output, x: Value, weights: Value, ends: Value | None = None,
    bias: Value | None = None, *_: Any, **__: Any,
) -> Value:  # fmt: skip
    """Multiply runs of rows by a matrix each, as mixtures of experts do: (s, k) by (e, k, n).

    Which rows meet which matrix is decided by the input, so the experts stay; a position along k
    or n is one channel of all experts.
    """
    if (x.ndim, weights.ndim) != (2, 3) or bias is not None:
        raise NotImplementedError("a grouped product of other shapes, or with a bias")
    chosen = mix_value(couplings, weights, [0], "experts, which the router picks by their number")
    matrix = chosen.moved(weights.shape[1:], lambda labels: labels[0])
    for dim in (0, 1):
        couplings.align(matrix, dim, _GROUPED_ALIGNMENT)
    return contract(couplings, [(x, "sk"), (matrix, "kn")], "sn", "a grouped product")


@rule("einsum")
def einsum(
    couplings: Couplings, output: Output, equation: str, operands: Sequence[Value], **_: Any
) -> Value:
    """Contract as the equation says; an ellipsis stands for leading dimensions of its own."""
    if "->" not in equation:
        raise NotImplementedError(f"einsum({equation!r})")
    names, result = einsum_names(equation, [value.ndim for value in operands])
    if any(len(set(each)) < len(each) for each in names):
        raise NotImplementedError("einsum of a diagonal")
    return contract(couplings, list(zip(operands, names, strict=True)), result, "einsum")
