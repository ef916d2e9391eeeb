"""Padding: constant borders along a channel dimension get virtual labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ramda_cli.structure.labels import Couplings, Layer, Value
from ramda_cli.structure.primitives import mix
from ramda_cli.structure.rules.registry import Output, rule


@rule("constant_pad_nd")
def constant_pad(
    couplings: Couplings, output: Output, x: Value, padding: Sequence[int], constant: Any = 0
) -> Value:
    """Pad with a constant; the borders can follow the channels they meet."""
    return _pad(couplings, output, x, padding, resizable=True, zero=constant == 0)


@rule("pad")
def pad(
    couplings: Couplings, output: Output, x: Value, padding: Sequence[int],
    mode: str = "constant", constant: Any = None,
) -> Value:  # fmt: skip
    """Pad; only constant borders can be resized."""
    is_constant = mode == "constant"
    zero = not is_constant or not constant
    return _pad(couplings, output, x, padding, resizable=is_constant, zero=zero)


@rule("reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d")
def mirror_pad(couplings: Couplings, output: Output, x: Value, padding: Sequence[int]) -> Value:
    """Pad with copies of the elements."""
    return _pad(couplings, output, x, padding, resizable=False, zero=True)


def _pad(
    couplings: Couplings,
    output: Output,
    x: Value,
    padding: Sequence[int],
    *,
    resizable: bool,
    zero: bool,
) -> Value:
    widths = {
        x.ndim - 1 - i: (padding[2 * i], padding[2 * i + 1]) for i in range(len(padding) // 2)
    }
    layers: list[Layer | None] = []
    for layer in x.layers:
        padded = sorted(d for d in layer.support if widths.get(d, (0, 0)) != (0, 0))
        if not padded:
            layers.append(layer if zero else layer.without_origin())
            continue
        before, after = widths[padded[0]]
        if len(layer.support) > 1 or min(before, after) < 0 or not resizable:
            layers.append(mix(couplings, layer, padded, "padded"))
            continue
        shape = list(layer.labels.shape)

        def border(width: int, shape: list[int] = shape, dim: int = padded[0]) -> Any:
            return couplings.fresh(width).reshape(
                [width if d == dim else 1 for d in range(len(shape))]
            )

        labels = np.concatenate([border(before), layer.labels, border(after)], axis=padded[0])
        layers.append(Layer(labels))
    return couplings.value(output.shape, layers)
