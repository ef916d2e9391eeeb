"""Pooling, resampling and patch extraction: channels pass, spatial dimensions are mixed."""

from typing import Any

import numpy as np

from ramda_cli.structure.labels import Array, Couplings, Layer, Value
from ramda_cli.structure.primitives import mix_value
from ramda_cli.structure.rules.registry import Output, rule


def _spatial(couplings: Couplings, output: Output, x: Value, dims: int) -> list[Value]:
    mixed = mix_value(couplings, x, range(-dims, 0), "pooled or resampled")
    layers = [layer.without_origin() for layer in mixed.layers]
    held = mixed.held_outside(range(x.ndim - dims, x.ndim))
    return [couplings.value(shape, layers, held=held) for shape in output.shapes]


@rule(
    "max_pool1d",
    "avg_pool1d",
    "adaptive_avg_pool1d",
    "adaptive_max_pool1d",
    "upsample_linear1d",
    "upsample_nearest1d",
)
def pool1d(couplings: Couplings, output: Output, x: Value, *_: Any) -> list[Value]:
    """Mix along the last dimension."""
    return _spatial(couplings, output, x, 1)


@rule(
    "max_pool2d", "max_pool2d_with_indices", "avg_pool2d", "adaptive_avg_pool2d",
    "_adaptive_avg_pool2d", "adaptive_max_pool2d", "upsample_nearest2d", "upsample_bilinear2d",
    "upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
)  # fmt: skip
def pool2d(couplings: Couplings, output: Output, x: Value, *_: Any) -> list[Value]:
    """Mix along the last two dimensions."""
    return _spatial(couplings, output, x, 2)


@rule("avg_pool3d", "max_pool3d", "adaptive_avg_pool3d", "max_pool3d_with_indices")
def pool3d(couplings: Couplings, output: Output, x: Value, *_: Any) -> list[Value]:
    """Mix along the last three dimensions."""
    return _spatial(couplings, output, x, 3)


@rule("im2col")
def im2col(couplings: Couplings, output: Output, x: Value, kernel: Any, *_: Any) -> Value:
    """Unfold patches: each channel becomes as many consecutive rows as the kernel has taps."""
    mixed = mix_value(couplings, x, [-1, -2], "unfolded")
    layers = (_repeat_channels(layer.labels, int(np.prod(kernel))) for layer in mixed.layers)
    return couplings.value(output.shape, (Layer(labels[..., 0]) for labels in layers))


@rule("pixel_unshuffle")
def pixel_unshuffle(couplings: Couplings, output: Output, x: Value, factor: int) -> Value:
    """Move squares of pixels into channels: each channel becomes factor² consecutive ones."""
    mixed = mix_value(couplings, x, [-1, -2], "moved by a pixel unshuffle")
    layers = (_repeat_channels(layer.labels, factor * factor) for layer in mixed.layers)
    return couplings.value(output.shape, (Layer(labels) for labels in layers))


def _repeat_channels(labels: Array, times: int) -> Array:
    """Repeat each label along the third dimension from the end."""
    return np.repeat(labels, times, -3) if labels.shape[-3] > 1 else labels
