"""What is claimed to be constant is compared with what hooks see, for inputs of two sizes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ramda_cli.structure import discover
from ramda_cli.structure.constants import Reading, read_constants
from tests.structure.exactness import Net, inputs, randomize_


def readings(model: nn.Module, example: Any) -> dict[str, Reading]:
    structure = discover(model, example)
    assert structure.graph is not None
    return read_constants(model, structure.graph.trace)


def zero_rows(layer: nn.Module, *rows: int) -> None:
    with torch.no_grad():
        layer.weight[list(rows)] = 0.0  # type: ignore[index, operator]


def seen(model: nn.Module, layer: nn.Module, example: Tensor) -> Tensor:
    """Return a layer's input with its channels first."""
    found: list[Tensor] = []
    axis = -1 if isinstance(layer, nn.Linear) else 1
    handle = layer.register_forward_pre_hook(
        lambda _, args: found.append(args[0].movedim(axis, 0).flatten(1))
    )
    with torch.no_grad():
        model(example)
    handle.remove()
    return found[0]


CONV_NETS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "bn, relu": lambda m, x: m.two(F.relu(m.bn(m.one(x)))),
    "pooled": lambda m, x: m.two(F.max_pool2d(F.gelu(m.bn(m.one(x))), 2)),
    "affine": lambda m, x: m.two(F.dropout(2.0 * F.hardswish(m.bn(m.one(x))) + 1.0, 0.5, False)),
    "flipped": lambda m, x: m.two(m.one(x).flip(1)),
    "halved": lambda m, x: m.two(torch.cat(list(reversed(m.one(x).chunk(2, 1))), 1)),
}


@pytest.mark.parametrize("name", CONV_NETS)
def test_constants_are_what_the_reader_sees(name: str) -> None:
    model = Net(
        CONV_NETS[name],
        one=nn.Conv2d(3, 8, 3, padding=1),
        bn=nn.BatchNorm2d(8),
        two=nn.Conv2d(8, 4, 3, padding=1),
    )
    randomize_(model, buffers="running")
    zero_rows(model.one, 1, 2, 5)
    constants = readings(model, inputs(2, 3, 12, 12))["two.weight"].constants
    assert int(constants.isfinite().sum()) == 3
    known = constants.isfinite()
    for size in (12, 16):
        rows = seen(model, model.two, inputs(3, 3, size, size, seed=size))
        assert torch.allclose(
            rows[known], constants[known][:, None].expand_as(rows[known]), rtol=0, atol=1e-14
        )


def test_a_sum_is_constant_where_both_are() -> None:
    model = Net(
        lambda m, x: m.two(F.relu(m.left(x) + m.right(x))),
        left=nn.Conv2d(3, 6, 1), right=nn.Conv2d(3, 6, 1), two=nn.Conv2d(6, 4, 1),
    )  # fmt: skip
    randomize_(model)
    zero_rows(model.left, 0, 1)
    zero_rows(model.right, 1, 2)
    constants = readings(model, inputs(2, 3, 6, 6))["two.weight"].constants
    assert constants.isfinite().tolist() == [False, True, False, False, False, False]
    assert constants[1] == F.relu(model.left.bias[1] + model.right.bias[1])


def test_a_constant_differs_between_positions_after_a_position_embedding() -> None:
    model = Net(
        lambda m, x: m.two(m.one(x) + m.places),
        one=nn.Linear(5, 6), places=nn.Parameter(torch.randn(1, 4, 6)), two=nn.Linear(6, 3),
    )  # fmt: skip
    randomize_(model)
    zero_rows(model.one, 0, 1)
    with torch.no_grad():
        model.places[:, :, 1] = 0.5
    constants = readings(model, inputs(2, 4, 5))["two.weight"].constants
    assert constants.isfinite().tolist() == [False, True, False, False, False, False]
    assert constants[1] == model.one.bias[1] + 0.5


def test_a_flattened_map_has_a_constant_for_each_position() -> None:
    model = Net(
        lambda m, x: m.fc(F.relu(m.one(x)).flatten(1)),
        one=nn.Conv2d(1, 3, 3), fc=nn.Linear(12, 2),
    )  # fmt: skip
    randomize_(model)
    zero_rows(model.one, 1)
    constants = readings(model, inputs(2, 1, 4, 4))["fc.weight"].constants
    expected = [False] * 4 + [True] * 4 + [False] * 4
    assert constants.isfinite().tolist() == expected


def test_a_weight_that_is_used_in_another_way_is_left_out() -> None:
    model = Net(
        lambda m, x: m.two(m.one(x)) + m.two.weight.sum(),
        one=nn.Linear(5, 6), two=nn.Linear(6, 3),
    )  # fmt: skip
    randomize_(model)
    found = readings(model, inputs(2, 5))
    assert "one.weight" in found
    assert "two.weight" not in found


def test_a_weight_that_reads_twice_has_the_constants_of_both() -> None:
    model = Net(
        lambda m, x: m.two(F.relu(m.one(x))) + m.two(F.relu(m.one(x)) * m.scale),
        one=nn.Linear(5, 4), two=nn.Linear(4, 3), scale=nn.Parameter(torch.ones(4)),
    )  # fmt: skip
    randomize_(model)
    zero_rows(model.one, 0, 1, 2)
    with torch.no_grad():
        model.one.bias[:3] = torch.tensor([-1.0, 2.0, 2.0])
        model.scale[1] = 1.0
    constants = readings(model, inputs(2, 5))["two.weight"].constants
    assert constants.isfinite().tolist() == [True, True, False, False]
    assert constants[:2].tolist() == [0.0, 2.0]


def test_what_the_input_decides_is_not_known() -> None:
    model = Net(
        lambda m, x: m.two(torch.where(x.sum() > 0, m.one(x), m.one(x) + 1)),
        one=nn.Linear(5, 4), two=nn.Linear(4, 3),
    )  # fmt: skip
    randomize_(model)
    zero_rows(model.one, 0)
    assert not readings(model, inputs(2, 5))["two.weight"].constants.isfinite().any()


def test_the_model_is_left_as_it_is() -> None:
    model = Net(lambda m, x: m.two(m.one(x)), one=nn.Linear(5, 4), two=nn.Linear(4, 3)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    readings(model, torch.randn(2, 5))
    assert model.training
    assert torch.get_default_dtype() == torch.float32
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
