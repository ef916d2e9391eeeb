"""Folding keeps the function to far below the proof's tolerance, with weights in float32."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from ramda_cli.structure import discover, identify
from ramda_cli.surgery import Folding, fold_constants_, remove
from ramda_cli.verification import verify
from tests.structure.exactness import Net, inputs, randomize_

TOLERANCE = 1e-13
"""Rounding a sum of constants to float32 would show at 1e-8."""


def fold(model: nn.Module, example: Tensor) -> tuple[Folding, nn.Module, dict[str, list[int]]]:
    """Fold and remove in a float32 copy; the outputs must stay."""
    dense = randomized(model)
    folded = copy.deepcopy(dense)
    structure = discover(folded, example)
    folding = fold_constants_(folded, structure)
    support = identify(folded, structure)
    smaller, _ = remove(folded, structure, support)
    for one in (folded, smaller):
        check = verify(dense, one, example).checks[0]
        assert check.relative_difference <= TOLERANCE
    return folding, smaller, support.removable


def randomized(model: nn.Module) -> nn.Module:
    """Give float32 values, and keep what is masked at zero."""
    masks = {name: (tensor != 0) for name, tensor in model.named_parameters() if tensor.ndim > 1}
    randomize_(model, buffers="running")
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name in masks:
                tensor *= masks[name]
    return model.float()


def structured(layer: nn.Module, amount: float = 0.5, dim: int = 0) -> nn.Module:
    prune.ln_structured(layer, "weight", amount=amount, n=2, dim=dim)
    return prune.remove(layer, "weight")


def rows_zero(layer: nn.Module, *rows: int) -> nn.Module:
    with torch.no_grad():
        layer.weight[list(rows)] = 0.0  # type: ignore[index, operator]
    return layer


Case = tuple[Callable[[Any, Tensor], Tensor], dict[str, nn.Module], tuple[int, ...], int]
"""Function, parts, shape of the input, zero filters."""

NETS: dict[str, Case] = {
    "in front of a padded convolution": (
        lambda m, x: m.two(F.relu(m.bn(m.one(x)))),
        {"one": structured(nn.Conv2d(3, 32, 3, padding=1, bias=False)), "bn": nn.BatchNorm2d(32),
         "two": nn.Conv2d(32, 4, 3, padding=1)},
        (2, 3, 9, 9), 16,
    ),
    "in front of a strided convolution without bias": (
        lambda m, x: m.bn2(m.two(F.silu(m.bn(m.one(x))))),
        {"one": structured(nn.Conv2d(3, 32, 3, bias=False)), "bn": nn.BatchNorm2d(32),
         "two": nn.Conv2d(32, 4, 5, stride=3, padding=2, bias=False), "bn2": nn.BatchNorm2d(4)},
        (2, 3, 9, 9), 16,
    ),
    "in an MLP": (
        lambda m, x: m.two(F.gelu(m.one(x))),
        {"one": structured(nn.Linear(5, 32)), "two": nn.Linear(32, 4)},
        (2, 7, 5), 16,
    ),
    "after a transposed convolution": (
        lambda m, x: m.two(m.one(x)),
        {"one": structured(nn.ConvTranspose2d(3, 32, 2, stride=2), dim=1),
         "two": nn.ConvTranspose2d(32, 4, 3)},
        (2, 3, 5, 5), 16,
    ),
    "read by two": (
        lambda m, x: m.two(F.relu(m.one(x))) + m.three(m.one(x)),
        {"one": structured(nn.Linear(5, 32)), "two": nn.Linear(32, 4), "three": nn.Linear(32, 4)},
        (2, 5), 16,
    ),
    "flattened": (
        lambda m, x: m.two(F.relu(m.one(x)).flatten(1)),
        {"one": structured(nn.Conv2d(1, 16, 3)), "two": nn.Linear(64, 4)},
        (2, 1, 4, 4), 8,
    ),
    "concatenated": (
        lambda m, x: m.two(torch.cat([m.one(x), torch.tanh(m.other(x))], 1)),
        {"one": structured(nn.Conv2d(3, 16, 1)), "other": structured(nn.Conv2d(3, 16, 1)),
         "two": nn.Conv2d(32, 4, 3, padding=1)},
        (2, 3, 6, 6), 16,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_all_but_two_constant_channels_of_a_group_go(name: str) -> None:
    function, parts, shape, zeros = NETS[name]
    model = Net(function, **parts)
    folding, _, removable = fold(model, inputs(*shape).float())
    carriers = sum(len(channels) for channels in folding.carriers.values())
    assert carriers == 2 * len(folding.carriers) > 0
    assert sum(len(channels) for channels in removable.values()) == zeros - carriers


def test_channels_that_are_exactly_zero_need_no_carrier() -> None:
    one = rows_zero(nn.Conv2d(3, 6, 3), 0, 2, 4)
    model = Net(lambda m, x: m.two(F.relu(m.one(x) - 100)), one=one, two=nn.Conv2d(6, 4, 3))
    folding, _, removable = fold(model, inputs(2, 3, 8, 8).float())
    assert folding.carriers == {}
    assert set(removable["one"]) >= {0, 2, 4}


def test_two_constants_stay_as_they_are() -> None:
    model = Net(
        lambda m, x: m.two(m.one(x)), one=rows_zero(nn.Linear(5, 6), 1, 4), two=nn.Linear(6, 3)
    )
    randomized(model)
    before = model.two.weight.clone()
    structure = discover(model, inputs(2, 5).float())
    assert fold_constants_(model, structure) == Folding({}, {"one": [1, 4]})
    assert torch.equal(model.two.weight, before)
    assert identify(model, structure).removable == {}


def test_a_residual_sum_is_constant_only_where_every_term_is() -> None:
    model = Net(
        lambda m, x: m.out(F.relu(m.left(x) + m.right(x))),
        left=rows_zero(nn.Conv2d(3, 12, 1), *range(6)),
        right=rows_zero(nn.Conv2d(3, 12, 1), *range(3, 12)),
        out=nn.Conv2d(12, 4, 3, padding=1),
    )
    folding, _, _ = fold(model, inputs(2, 3, 6, 6).float())
    touched = {*folding.carriers.get("left", ()), *folding.unread.get("left", ())}
    assert touched == {3, 4, 5}


def test_a_constant_behind_a_gate_stays() -> None:
    model = Net(
        lambda m, x: m.out(m.one(x) * torch.sigmoid(m.gate(x))),
        one=rows_zero(nn.Linear(5, 12), *range(6)), gate=nn.Linear(5, 12), out=nn.Linear(12, 4),
    )  # fmt: skip
    folding, _, removable = fold(model, inputs(2, 5).float())
    assert folding == Folding({}, {})
    assert removable == {}


def test_a_constant_in_front_of_a_padded_depthwise_convolution_stays() -> None:
    model = Net(
        lambda m, x: m.out(m.depth(m.one(x))),
        one=rows_zero(nn.Conv2d(3, 12, 1), *range(6)),
        depth=nn.Conv2d(12, 12, 3, padding=1, groups=12), out=nn.Conv2d(12, 4, 1),
    )  # fmt: skip
    assert fold(model, inputs(2, 3, 6, 6).float())[0] == Folding({}, {})
    model.depth.padding = (0, 0)
    folding, _, removable = fold(model, inputs(2, 3, 6, 6).float())
    assert len(folding.carriers["one"]) == 2
    assert len(removable["one"]) == 4


def test_a_small_constant_is_not_the_one_that_carries() -> None:
    one = rows_zero(nn.Linear(5, 8), *range(6))
    model = randomized(Net(lambda m, x: m.two(m.one(x)), one=one, two=nn.Linear(8, 3)))
    with torch.no_grad():
        model.one.bias[:6] = torch.tensor([1e-7, 2.0, 1e-7, 1e-7, 1.0, 1e-7])
    folding = fold_constants_(model, discover(model, inputs(2, 5).float()))
    assert folding.carriers == {"one": [1, 4]}


def test_readers_that_need_other_carriers_get_them() -> None:
    model = randomized(
        Net(
            lambda m, x: m.two(F.relu(m.one(x))) + m.three(F.relu(-m.one(x))),
            one=rows_zero(nn.Linear(5, 12), *range(8)),
            two=nn.Linear(12, 3),
            three=nn.Linear(12, 3),
        )
    )
    with torch.no_grad():
        model.one.bias[:8] = torch.tensor([1.0, 2.0, 3.0, 4.0, -1.0, -2.0, -3.0, -4.0])
    dense = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    example = inputs(2, 5).float()
    expected = model.double()(example.double())
    model.float().load_state_dict(dense)
    folding = fold_constants_(model, discover(model, example))
    assert folding == Folding({"one": [0, 1, 4, 5]}, {"one": [2, 3, 6, 7]})
    found = model.double()(example.double())
    assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()


def test_tied_readers_are_folded_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(5, 12), nn.Linear(5, 12)
            self.two, self.three = nn.Linear(12, 3, bias=False), nn.Linear(12, 3, bias=False)
            self.three.weight = self.two.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.two(F.relu(self.one(x))) + self.three(F.relu(self.other(x)))

    model = Tied()
    rows_zero(model.one, *range(8))
    rows_zero(model.other, *range(8))
    folding, _, _ = fold(model, inputs(2, 5).float())
    # Only what both read as the same number is a constant: here, both zeros of a relu.
    assert folding.carriers == {}


def test_a_weak_constant_carries_alone_for_no_reader_that_has_a_strong_one() -> None:
    model = randomized(
        Net(
            lambda m, x: m.two(m.one(x)) + m.three(m.one(x) * m.scale),
            one=rows_zero(nn.Linear(5, 8), *range(6)), scale=nn.Parameter(torch.ones(8)),
            two=nn.Linear(8, 3), three=nn.Linear(8, 3),
        )
    )  # fmt: skip
    with torch.no_grad():
        model.one.bias[:6] = torch.tensor([1e-7, 1e-7, 1e-7, 2.0, 1.0, 3.0])
        model.scale[:6] = torch.tensor([3.0, 2.0, 1.0, 0.0, 0.0, 0.0])
    folding = fold_constants_(model, discover(model, inputs(2, 5).float()))
    assert folding.carriers == {"one": [0, 1, 5]}


def test_where_the_weight_is_zero_the_channel_may_be_anything() -> None:
    three = nn.Linear(12, 4)
    with torch.no_grad():
        three.weight[:, :6] = 0.0
    model = Net(
        lambda m, x: m.two(m.one(x)) + m.three(m.one(x) * torch.sigmoid(m.gate(x))),
        one=rows_zero(nn.Linear(5, 12), *range(6)), gate=nn.Linear(5, 12), two=nn.Linear(12, 4),
        three=three,
    )  # fmt: skip
    folding, _, removable = fold(model, inputs(2, 5).float())
    assert [len(channels) for channels in folding.carriers.values()] == [2]
    assert [len(channels) for channels in removable.values()] == [4]
