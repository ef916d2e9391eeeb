"""Element-wise operators: the operands' channels become the same.

Any operator that torch tags as pointwise uses `pointwise`; the rule decides only when a zero
operand makes a zero result.
"""

from dataclasses import replace
from typing import Any

from ramda_cli.structure.labels import Couplings, Shape, Value
from ramda_cli.structure.primitives import ZeroRule, join
from ramda_cli.structure.rules.registry import Output, rule
from ramda_cli.structure.rules.shape import take_along


def pointwise(
    couplings: Couplings, output: Output, *operands: Any, zero: ZeroRule = "drop"
) -> Value:
    """Join all tensor operands; by default nothing is known of the result's zeros."""
    values = [operand for operand in operands if isinstance(operand, Value)]
    if not values:
        return Value(output.shape)
    return _lead(join(couplings, values, zero), output.shape)


def _lead(value: Value, shape: Shape) -> Value:
    if value.shape != shape:
        raise ValueError(f"a pointwise operation gave {shape} where {value.shape} was expected")
    return value


@rule("mul")
def multiply(couplings: Couplings, output: Output, x: Any, other: Any) -> Value:
    """Zero where a weight is; a number leaves zeros alone."""
    both = isinstance(x, Value) and isinstance(other, Value)
    product = pointwise(couplings, output, x, other, zero="product" if both else "keep")
    return replace(product, is_square=x is other)


@rule("pow")
def power(couplings: Couplings, output: Output, x: Any, exponent: Any) -> Value:
    """Raise to a power; a positive one leaves zeros alone."""
    positive = isinstance(exponent, (int, float)) and exponent > 0
    raised = pointwise(couplings, output, x, exponent, zero="keep" if positive else "drop")
    return replace(raised, is_square=isinstance(exponent, (int, float)) and exponent == 2)


@rule("add", "sub")
def add(couplings: Couplings, output: Output, x: Any, other: Any, *_: Any, **__: Any) -> Value:
    """Zero where both operands are; adding a number is not."""
    both = isinstance(x, Value) and isinstance(other, Value)
    return pointwise(couplings, output, x, other, zero="sum" if both else "drop")


@rule("div")
def divide(couplings: Couplings, output: Output, x: Any, other: Any, *_: Any, **__: Any) -> Value:
    """Division by a number leaves zeros alone."""
    return pointwise(
        couplings, output, x, other, zero="drop" if isinstance(other, Value) else "keep"
    )


@rule("glu")
def gated(couplings: Couplings, output: Output, x: Value, dim: int = -1) -> Value:
    """Multiply the first half along `dim` by the sigmoid of the second."""
    half = output.shape[dim]
    value, gate = (
        take_along(couplings, x, output.shape, dim, slice(start, start + half))
        for start in (0, half)
    )
    return join(couplings, [value, gate], "drop")


@rule(
    "neg", "clone", "alias", "_to_copy", "to", "relu", "abs", "detach", "detach_", "contiguous",
    "dropout", "lift_fresh_copy", "type_as", "relu6", "_conj", "gelu", "silu", "tanh", "sin", "erf",
    "hardswish", "mish", "elu", "selu", "celu", "leaky_relu",
)  # fmt: skip
def zero_preserving(couplings: Couplings, output: Output, x: Value, *_: Any, **__: Any) -> Value:
    """Map zero to zero, whatever the other arguments."""
    return pointwise(couplings, output, x, zero="keep")


@rule(
    "where", "fill", "masked_fill", "floor_divide", "__and__", "__or__", "__xor__", "logical_or",
    "logical_and", "logical_not", "bitwise_not", "hardsigmoid", "hardtanh", "softplus", "rrelu",
    "prelu", "_prelu_kernel", "clamp", "clamp_min", "clamp_max", "log_sigmoid_forward",
)  # fmt: skip
def untagged(couplings: Couplings, output: Output, *operands: Any, **_: Any) -> Value:
    """Act element by element without torch's tag saying so."""
    return pointwise(couplings, output, *operands)
