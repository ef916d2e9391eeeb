"""Convolutions: linear over channels, with kernel and spatial dimensions that cannot shrink."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ramda_cli.structure.labels import Couplings, Value
from ramda_cli.structure.primitives import contract, mix_value, reshape
from ramda_cli.structure.rules.normalization import per_channel
from ramda_cli.structure.rules.registry import Output, rule


@rule("conv1d", "conv2d", "conv3d")
def conv(
    couplings: Couplings, output: Output, x: Value, weight: Value, bias: Value | None = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Value:  # fmt: skip
    """Convolve: weight (out, in / groups, *kernel)."""
    return convolve(couplings, output, x, weight, bias, groups=groups, transposed=False)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose(
    couplings: Couplings, output: Output, x: Value, weight: Value, bias: Value | None = None,
    stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Value:  # fmt: skip
    """Convolve with a weight of shape (in, out / groups, *kernel)."""
    return convolve(couplings, output, x, weight, bias, groups=groups, transposed=True)


@rule("convolution")
def convolution(
    couplings: Couplings, output: Output, x: Value, weight: Value, bias: Value | None,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], transposed: bool,
    output_padding: Sequence[int], groups: int,
) -> Value:  # fmt: skip
    """Convolve either way."""
    return convolve(couplings, output, x, weight, bias, groups=groups, transposed=transposed)


def convolve(
    couplings: Couplings,
    output: Output,
    x: Value,
    weight: Value,
    bias: Value | None,
    *,
    groups: int,
    transposed: bool,
) -> Value:
    """Contract the input channels within each of `groups`.

    A depthwise convolution sums over a dimension of one element, so its channels pass through.
    """
    if x.ndim != weight.ndim:
        raise NotImplementedError("a convolution of an input without a batch dimension")
    kernel_dims = range(2, weight.ndim)
    x2 = _drop_trailing(mix_value(couplings, x, kernel_dims, "convolved over"))
    w2 = _drop_trailing(mix_value(couplings, weight, kernel_dims, "a kernel position"))
    batch, channels = x.shape[:2]
    if groups == 1:
        terms = [(x2, "ni"), (w2, "io" if transposed else "oi")]
        y = contract(couplings, terms, "no", "a convolution")
    else:
        grouped_x = reshape(couplings, x2, (batch, groups, channels // groups))
        rows, columns = weight.shape[:2]
        grouped_w = reshape(couplings, w2, (groups, rows // groups, columns))
        terms = [(grouped_x, "ngi"), (grouped_w, "gio" if transposed else "goi")]
        y = contract(couplings, terms, "ngo", "a grouped convolution")
        y = reshape(couplings, y, (batch, y.shape[1] * y.shape[2]))
    if bias is not None:
        y = per_channel(couplings, y, [bias], zero="sum")
    trailing = (1,) * len(kernel_dims)
    layers = (
        layer.relabelled(layer.labels.reshape(layer.labels.shape + trailing)) for layer in y.layers
    )
    space = couplings.fixed_value(output.shape, "positions of a feature map", dims=kernel_dims)
    return couplings.value(output.shape, layers, held=space.held)


def _drop_trailing(value: Value) -> Value:
    channels = replace(value, held=value.held_outside(range(2, value.ndim)))
    return channels.moved(value.shape[:2], lambda labels: labels.reshape(labels.shape[:2]))
