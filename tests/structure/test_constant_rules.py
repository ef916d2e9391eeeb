import math

import pytest
import torch
from torch import Tensor

from ramda_cli.structure.constant_rules import CONSTANT_RULES, as_it_is

NAN = math.nan
aten = torch.ops.aten


def rule(name: str, *args: object, overload: str = "default", **kwargs: object) -> Tensor:
    target = getattr(getattr(aten, name), overload)
    result = CONSTANT_RULES[name](target, *args, **kwargs)
    return result[0] if isinstance(result, tuple) else result


def wide(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.nan_to_num(1e9), other.nan_to_num(1e9))


UNARY = [
    "abs", "celu", "elu", "erf", "exp", "gelu", "hardsigmoid", "hardswish", "hardtanh",
    "leaky_relu", "mish", "neg", "reciprocal", "relu", "relu6", "rsqrt", "selu", "sigmoid", "silu",
    "softplus", "sqrt", "tanh", "clone",
]  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
def test_what_runs_as_it_is_lets_nan_through_element_by_element(name: str) -> None:
    # 67: whole vectors and a rest.
    x = noise(67).abs() + 0.1
    unknown = torch.arange(67) % 3 == 1
    y = rule(name, x.masked_fill(unknown, NAN))
    assert torch.equal(y.isnan(), unknown)
    assert torch.equal(y[~unknown], getattr(aten, name)(x)[~unknown])


@pytest.mark.parametrize(
    ("name", "args", "overload"),
    [
        ("add", (wide(*range(67)),), "Tensor"),
        ("sub", (wide(*range(67)),), "Tensor"),
        ("div", (2.0,), "Tensor"),
        ("rsub", (2.0,), "Scalar"),
        ("clamp", (0.0, 0.5), "default"),
        ("clamp_min", (0.0,), "default"),
        ("clamp_max", (0.5,), "default"),
        ("pow", (2,), "Tensor_Scalar"),
    ],
)
def test_so_do_those_with_more_arguments(
    name: str, args: tuple[object, ...], overload: str
) -> None:
    unknown = torch.arange(67) % 3 == 1
    y = rule(name, noise(67).masked_fill(unknown, NAN), *args, overload=overload)
    assert torch.equal(y.isnan(), unknown)


@pytest.mark.parametrize(
    ("name", "args", "overload"),
    [
        ("_adaptive_avg_pool2d", ([1, 1],), "default"),
        ("adaptive_avg_pool2d", ([1, 1],), "default"),
        ("adaptive_max_pool2d", ([1, 1],), "default"),
        ("max_pool2d", ([4, 4],), "default"),
        ("max_pool2d_with_indices", ([4, 4],), "default"),
        ("avg_pool2d", ([4, 4],), "default"),
        ("mean", ([2, 3], True), "dim"),
    ],
)
def test_one_unknown_pixel_makes_the_mean_and_the_maximum_of_its_map_unknown(
    name: str, args: tuple[object, ...], overload: str
) -> None:
    x = torch.full((1, 3, 4, 4), 0.25, dtype=torch.float64)
    x[0, 1, 2, 3] = NAN
    y = rule(name, x, *args, overload=overload).flatten()
    assert same(y, wide(0.25, NAN, 0.25))


@pytest.mark.parametrize("name", ["layer_norm", "softmax"])
def test_one_unknown_element_makes_its_row_unknown(name: str) -> None:
    x = noise(2, 5)
    x[0, 3] = NAN
    args, overload = (([5],), "default") if name == "layer_norm" else ((-1,), "int")
    y = rule(name, x, *args, overload=overload)
    assert y[0].isnan().all()
    assert not y[1].isnan().any()


def test_zero_hides_what_it_is_multiplied_by() -> None:
    y = rule("mul", wide(0.0, 2.0, NAN, NAN), wide(NAN, 3.0, 0.0, 5.0), overload="Tensor")
    assert same(y, wide(0.0, 6.0, 0.0, NAN))
    gates = torch.full((1, 2, 1, 1), NAN, dtype=torch.float64)
    x = wide(0.0, 1.0).reshape(1, 2, 1, 1).expand(1, 2, 3, 3)
    y = rule("mul", x, gates, overload="Tensor")
    assert same(y, wide(0.0, NAN).reshape(1, 2, 1, 1).expand(1, 2, 3, 3))


def test_a_zero_gamma_leaves_beta() -> None:
    x = torch.full((2, 3, 2, 2), NAN, dtype=torch.float64)
    x[:, 2] = 0.5
    y = rule(
        "_native_batch_norm_legit_no_training", x, wide(0.0, 1.0, 2.0), wide(7.0, 7.0, 7.0),
        wide(0.0, 0.0, 0.5), wide(1.0, 1.0, 1.0), 0.1, 1e-5,
    )  # fmt: skip
    assert same(y, wide(7.0, NAN, 7.0).reshape(1, 3, 1, 1).expand(2, 3, 2, 2))


def test_zero_weights_read_nothing_and_known_inputs_give_known_outputs() -> None:
    x = wide(NAN, 2.0)
    weight = wide(0.0, 0.0, 1.0, 0.0, 0.0, 3.0).reshape(3, 2)
    assert same(rule("linear", x, weight), wide(0.0, NAN, 6.0))
    assert same(rule("linear", x, weight, wide(1.0, 1.0, 1.0)), wide(1.0, NAN, 7.0))
    row = x.reshape(1, 2)
    assert same(rule("mm", row, weight.T), wide(0.0, NAN, 6.0).reshape(1, 3))
    assert same(rule("addmm", wide(1.0, 1.0, 1.0), row, weight.T), wide(1, NAN, 7).reshape(1, 3))
    # An unknown weight that meets a zero.
    assert same(rule("linear", wide(0.0, 2.0), wide(NAN, 1.0).reshape(1, 2)), wide(2.0))
    assert same(rule("linear", wide(1.0, 2.0), wide(NAN, 1.0).reshape(1, 2)), wide(NAN))


@pytest.mark.parametrize("padding", [[0, 0], [1, 1]])
def test_behind_a_padded_convolution_only_zeros_are_known(padding: list[int]) -> None:
    x = torch.full((1, 3, 5, 5), NAN, dtype=torch.float64)
    x[:, 1], x[:, 2] = 2.0, 0.0
    weight = torch.zeros(4, 3, 3, 3, dtype=torch.float64)
    weight[1, 0], weight[2, 1], weight[3, 2] = 1.0, 1.0, 1.0
    y = rule("conv2d", x, weight, wide(5.0, 5.0, 5.0, 5.0), [1, 1], padding)
    of_constant = NAN if padding == [1, 1] else 23.0
    expected = wide(5.0, NAN, of_constant, 5.0).reshape(1, 4, 1, 1).expand_as(y)
    assert same(y, expected)


def test_a_convolution_with_default_settings() -> None:
    x = torch.full((1, 1, 3, 3), 2.0, dtype=torch.float64)
    assert same(rule("conv2d", x, torch.ones_like(x)), wide(18.0).reshape(1, 1, 1, 1))
    y = rule("conv2d", x, torch.ones_like(x), None, [1, 1], "same", overload="padding")
    assert y.isnan().all()


@pytest.mark.parametrize(
    ("name", "settings", "overload"),
    [
        ("conv_transpose2d", (torch.ones(1, 1, 2, 2, dtype=torch.float64),), "input"),
        ("avg_pool2d", ([3, 3], [1, 1], [1, 1]), "default"),
        ("constant_pad_nd", ([1, 1, 1, 1], 0.0), "default"),
    ],
)
def test_a_constant_next_to_a_border_is_not_known(
    name: str, settings: tuple[object, ...], overload: str
) -> None:
    constant = torch.full((1, 1, 4, 4), 2.0, dtype=torch.float64)
    assert rule(name, constant, *settings, overload=overload)[:, :, 1:3, 1:3].isnan().all()
    assert (rule(name, torch.zeros_like(constant), *settings, overload=overload) == 0).all()


def test_attention_over_zeros_is_zero() -> None:
    value = torch.full((1, 1, 3, 2), NAN, dtype=torch.float64)
    value[..., 1] = 0.0
    query = torch.full((1, 1, 4, 8), NAN, dtype=torch.float64)
    y = rule("scaled_dot_product_attention", query, query[:, :, :3], value)
    assert y.shape == (1, 1, 4, 2)
    assert y[..., 0].isnan().all()
    assert (y[..., 1] == 0).all()


def test_every_operator_that_swallows_nan_is_left_out() -> None:
    swallow = {"where", "gt", "isnan", "nan_to_num", "masked_fill", "argmax", "sum", "fmax", "eq"}
    assert not swallow & CONSTANT_RULES.keys()
    moved = {name for name, function in CONSTANT_RULES.items() if function is as_it_is}
    assert {"cat", "permute", "slice"} < moved
