import torch
import torch.nn.functional as F
from torch import nn

from ramda_cli.structure import discover, identify
from ramda_cli.surgery import fold_constants_
from ramda_cli.surgery.zero_slices import Zeros, ZeroSlices, count_zeros
from tests.structure.exactness import Net, inputs, randomize_


def count(model: nn.Module) -> Zeros:
    structure = discover(model, inputs(2, 3, 6, 6))
    dense = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folding = fold_constants_(model, structure)
    support = identify(model, structure)
    model.load_state_dict(dense)
    return count_zeros(model, structure, support, folding)


def net() -> nn.Module:
    return randomize_(
        Net(
            lambda m, x: m.three(F.relu(m.two(m.one(x)) + m.side(x))).mean((2, 3)),
            one=nn.Conv2d(3, 8, 1),
            two=nn.Conv2d(8, 6, 3, padding=1),
            side=nn.Conv2d(3, 6, 1),
            three=nn.Conv2d(6, 4, 1),
        )
    )


def test_every_zero_slice_is_counted_with_its_fate() -> None:
    model = net()
    with torch.no_grad():
        model.one.weight[:5] = 0.0
        model.two.weight[:, 7] = 0.0
        model.two.weight[2] = 0.0
        model.side.weight[:, 1] = 0.0
        model.three.weight[3] = 0.0
    zeros = count(model)
    assert zeros.filters == ZeroSlices(
        found=7,
        removed=3,
        staying={
            "constants that carry those of their group": 2,
            "the channel is neither zero nor constant where it is read": 1,
            "the model's output": 1,
        },
    )
    assert zeros.inputs == ZeroSlices(found=2, removed=1, staying={"the model's input": 1})


def test_scattered_zeros_are_a_share_and_no_slices() -> None:
    model = net()
    with torch.no_grad():
        model.two.weight[:, :, 0, :] = 0.0
    zeros = count(model)
    nothing = ZeroSlices(found=0, removed=0, staying={})
    assert (zeros.filters, zeros.inputs) == (nothing, nothing)
    weights = 3 * 8 + 8 * 6 * 9 + 3 * 6 + 6 * 4
    assert zeros.share == 8 * 6 * 3 / weights


def test_where_all_are_zero_one_stays() -> None:
    model = net()
    with torch.no_grad():
        model.one.weight[:] = 0.0
        model.one.bias[:] = 0.0
    zeros = count(model)
    assert zeros.filters.staying == {"one channel of a width must stay": 1}
    assert zeros.filters.removed == 7
