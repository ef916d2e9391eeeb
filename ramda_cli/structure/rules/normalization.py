"""Normalisation: batch norm acts on each channel alone, the others mix what they normalise over."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ramda_cli.structure.labels import Couplings, Layer, Value, along
from ramda_cli.structure.primitives import ZeroRule, join, mix_value, reshape
from ramda_cli.structure.rules.registry import Output, rule


def per_channel(
    couplings: Couplings,
    x: Value,
    vectors: Sequence[Value | None],
    *,
    dim: int = 1,
    zero: ZeroRule = "drop",
) -> Value:
    """Combine `x` with vectors along its channel dimension."""
    for vector in vectors:
        if vector is None:
            continue
        shape = [1] * x.ndim
        shape[dim] = vector.shape[0]
        layers = tuple(
            Layer(along(layer.labels, dim, x.ndim), makers=layer.zeroed_by)
            for layer in vector.layers
        )
        x = join(couplings, [x, Value(tuple(shape), layers, vector.from_parameters)], zero)
    return x


def _forget_zeros(value: Value) -> Value:
    return replace(value, layers=tuple(layer.without_origin() for layer in value.layers))


def _with_statistics(output: Output, y: Value) -> list[Value]:
    return [y, *(Value(shape) for shape in output.shapes[1:])]


@rule("_native_batch_norm_legit_no_training")
def batch_norm_inference(
    couplings: Couplings, output: Output, x: Value, weight: Value | None, bias: Value | None,
    mean: Value, variance: Value, *_: Any,
) -> list[Value]:  # fmt: skip
    """Normalise each channel by stored statistics."""
    y = per_channel(couplings, x, [weight, bias, mean, variance])
    return _with_statistics(output, _forget_zeros(y))


@rule("batch_norm", "instance_norm", "native_batch_norm", "_native_batch_norm_legit")
def batch_norm(
    couplings: Couplings, output: Output, x: Value, *settings: Any
) -> list[Value]:  # fmt: skip
    """Normalise each channel by its own statistics; weight standardisation does it to weights.

    Of the settings, up to four vectors have an entry per channel: weight, bias, mean, variance.
    """
    other = [d for d in range(x.ndim) if d != 1]
    mixed = mix_value(couplings, x, other, "normalised over")
    y = per_channel(couplings, mixed, [v for v in settings if isinstance(v, Value)])
    return _with_statistics(output, _forget_zeros(y))


@rule("rms_norm", "_fused_rms_norm")
def rms_norm(
    couplings: Couplings, output: Output, x: Value, normalized_shape: Sequence[int],
    weight: Value | None = None, *_: Any,
) -> list[Value]:  # fmt: skip
    """Divide by the mean square over the trailing dimensions: as `layer_norm`, or a stream."""
    last = x.ndim - 1
    along_width = [layer for layer in x.layers if layer.support == {last}]
    if len(normalized_shape) > 1 or not along_width or not couplings.normalise(along_width[0]):
        return layer_norm(couplings, output, x, normalized_shape, weight)
    affine = [] if weight is None else [weight]
    return _with_statistics(output, join(couplings, [x, *affine], "product" if affine else "keep"))


@rule("layer_norm", "native_layer_norm")
def layer_norm(
    couplings: Couplings, output: Output, x: Value, normalized_shape: Sequence[int],
    weight: Value | None = None, bias: Any = None, *_: Any,
) -> list[Value]:  # fmt: skip
    """Mix the trailing dimensions: removing a channel would change the statistics."""
    trailing = range(-len(normalized_shape), 0)
    mixed = _forget_zeros(mix_value(couplings, x, trailing, "the width of a LayerNorm or RMSNorm"))
    affine = [vector for vector in (weight, bias) if isinstance(vector, Value)]
    return _with_statistics(output, join(couplings, [mixed, *affine], "drop"))


@rule("_weight_norm_interface", "_weight_norm")
def weight_norm(
    couplings: Couplings, output: Output, direction: Value, scale: Value, dim: int = 0
) -> list[Value]:
    """Normalise a weight over all dimensions but one: only that one stays free."""
    other = [d for d in range(direction.ndim) if d != dim % direction.ndim]
    mixed = mix_value(couplings, direction, other, "normalised by weight_norm")
    return _with_statistics(output, _forget_zeros(join(couplings, [mixed, scale], "drop")))


@rule("group_norm")
def group_norm(
    couplings: Couplings, output: Output, x: Value, num_groups: int, weight: Value | None = None,
    bias: Value | None = None, *_: Any,
) -> Value:  # fmt: skip
    """Mix within each group of channels and over space."""
    batch, channels = x.shape[:2]
    split = reshape(couplings, x, (batch, num_groups, channels // num_groups, *x.shape[2:]))
    mixed = mix_value(couplings, split, range(2, split.ndim), "the width of a GroupNorm")
    y = _forget_zeros(reshape(couplings, mixed, x.shape))
    return per_channel(couplings, y, [weight, bias])
