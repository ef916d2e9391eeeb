"""Operators on tensors in which NaN stands for an element that depends on the input.

Most operators need nothing: NaN in gives NaN out, in every element that depends on it. Those of
which this is true are listed. A few know more, because a zero hides what it is multiplied by: a
zero filter, a zero gamma, a zero channel behind a gate. What depends on the input is taken to be
finite. An operator that is not here has a result of which nothing is known.

What is known must hold at every image size. A border of zeros changes a constant near it, how far
depends on the size, so behind a padded operator only zeros are known.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

ConstantRule = Callable[..., Any]
"""Called as `rule(target, *arguments)`, with the arguments of the operator."""

_aten = torch.ops.aten


def as_it_is(target: Any, *args: Any, **kwargs: Any) -> Any:
    """Run the operator: NaN passes through."""
    return target(*args, **kwargs)


def reshape(target: Any, x: Tensor, shape: Sequence[int]) -> Tensor:
    """Reshape, whatever the strides."""
    return x.reshape(shape)


def multiply(target: Any, x: Any, other: Any) -> Tensor:
    """Multiply; zero times anything is zero."""
    product = target(x, other)
    for factor in (x, other):
        if isinstance(factor, Tensor):
            product = product.masked_fill((factor == 0).expand_as(product), 0.0)
    return product


def batch_norm(
    target: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, *statistics: Any
) -> tuple[Tensor, None, None]:
    """Normalise by stored statistics; a zero gamma leaves beta."""
    y = target(x, weight, bias, *statistics)[0]
    if weight is not None:
        shape = [1, -1] + [1] * (x.ndim - 2)
        beta = torch.zeros_like(weight) if bias is None else bias
        y = torch.where((weight == 0).reshape(shape), beta.reshape(shape), y)
    return y, None, None


def linear(target: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x Wᵀ + b; a zero weight reads nothing."""
    return _plus(_contract(target, x, weight), bias)


def matrix_product(target: Any, x: Tensor, other: Tensor) -> Tensor:
    """Multiply matrices; a zero hides what it meets."""
    return _contract(target, x, other)


def addmm(target: Any, bias: Tensor, x: Tensor, other: Tensor) -> Tensor:
    """Multiply matrices and add."""
    return _plus(_contract(_aten.mm.default, x, other), bias)


def convolution(
    target: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None, *settings: Any
) -> Tensor:
    """Convolve; a zero filter reads nothing. Settings: stride, padding, dilation, groups."""
    padded = len(settings) > 1 and _pads(settings[1])
    return _convolve(target, _only_zeros(x) if padded else x, weight, bias, *settings)


def transposed_convolution(
    target: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None, *settings: Any
) -> Tensor:
    """Convolve; near every border fewer terms are summed."""
    return _convolve(target, _only_zeros(x), weight, bias, *settings)


def average_pool(target: Any, x: Tensor, *settings: Any) -> Tensor:
    """Average; a border counts as zeros. Settings: kernel, stride, padding."""
    padded = len(settings) > 2 and _pads(settings[2])
    return target(_only_zeros(x) if padded else x, *settings)


def pad(target: Any, x: Tensor, *settings: Any) -> Tensor:
    """Pad; a border that differs from what it surrounds is one more thing that is not known."""
    return target(_only_zeros(x), *settings)


def attention(target: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    """Average the values over the keys: zeros stay zeros."""
    shape = (*query.shape[:-1], value.shape[-1])
    dead = (value == 0).all(dim=-2, keepdim=True)
    return torch.full(shape, math.nan).masked_fill(dead.expand(shape), 0.0)


def _contract(target: Any, x: Tensor, weight: Tensor) -> Tensor:
    """Return a product that is linear in both, NaN where a term that is not zero is not known."""
    x_unknown, weight_unknown = x.isnan(), weight.isnan()
    known = target(x.masked_fill(x_unknown, 0.0), weight.masked_fill(weight_unknown, 0.0))
    doubt = target(x_unknown.to(x.dtype), (weight != 0).to(x.dtype))
    if weight_unknown.any():
        doubt = doubt + target((x != 0).to(x.dtype), weight_unknown.to(x.dtype))
    return known.masked_fill(doubt > 0, math.nan)


def _convolve(
    target: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any
) -> Tensor:
    y = _contract(lambda one, other: target(one, other, None, *settings), x, weight)
    return y if bias is None else y + bias.reshape([-1] + [1] * (x.ndim - 2))


def _plus(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + bias


def _only_zeros(x: Tensor) -> Tensor:
    return x.masked_fill(x != 0, math.nan)


def _pads(padding: Any) -> bool:
    return any(padding) if isinstance(padding, (list, tuple)) else padding not in (0, "valid")


CONSTANT_RULES: dict[str, ConstantRule] = {
    **dict.fromkeys((
        "abs", "add", "celu", "clamp", "clamp_max", "clamp_min", "div", "elu", "erf", "exp", "gelu",
        "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish", "neg", "pow", "reciprocal",
        "relu", "relu6", "rsqrt", "rsub", "selu", "sigmoid", "silu", "softplus", "sqrt", "sub",
        "tanh",
    ), as_it_is),
    **dict.fromkeys((
        "full", "full_like", "getitem", "ones", "ones_like", "zeros", "zeros_like",
        "alias", "clone", "contiguous", "detach", "dropout", "lift_fresh_copy", "to", "_to_copy",
        "cat", "chunk", "expand", "flatten", "flip", "permute", "repeat", "roll", "select", "slice",
        "split", "split_with_sizes", "squeeze", "stack", "t", "transpose", "unbind", "unflatten",
        "unsqueeze",
    ), as_it_is),
    **dict.fromkeys((
        "_adaptive_avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
        "adaptive_max_pool1d", "adaptive_max_pool2d", "max_pool1d", "max_pool2d", "max_pool3d",
        "max_pool2d_with_indices", "max_pool3d_with_indices", "mean",
        "layer_norm", "native_layer_norm", "group_norm", "rms_norm", "softmax", "_softmax",
        "upsample_bilinear2d", "upsample_nearest2d",
    ), as_it_is),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_copy"), reshape),
    "mul": multiply,
    "_native_batch_norm_legit_no_training": batch_norm,
    "linear": linear,
    **dict.fromkeys(("mm", "bmm", "matmul"), matrix_product),
    "addmm": addmm,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), convolution),
    **dict.fromkeys(
        ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), transposed_convolution
    ),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), average_pool),
    **dict.fromkeys(("constant_pad_nd", "pad"), pad),
    "scaled_dot_product_attention": attention,
}  # fmt: skip
"""By operator. Those that run as they are: element by element; moving elements; summing over some,
where a constant stays the same constant however many are summed."""
