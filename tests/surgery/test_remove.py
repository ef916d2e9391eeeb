import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ramda_cli.structure import Support, discover, identify, input_channel_structure, zero_
from ramda_cli.surgery import GraphModel, remove
from ramda_cli.surgery.kept import KeptPositions
from tests.structure.exactness import Net, assert_equal, call, inputs, randomize_

X = inputs(2, 5)


def mlp() -> nn.Module:
    return randomize_(Net(lambda m, x: m.b(m.a(x).relu()), a=nn.Linear(5, 8), b=nn.Linear(8, 2)))


def hard_coded(m: Net, x: Tensor) -> Tensor:
    return m.b(m.a(x).relu().view(-1, 2, 4).flatten(1))


def shrink(net: nn.Module) -> tuple[nn.Module, nn.Module, str]:
    structure = discover(net, X)
    group = structure.groups[0]
    zero_(net, structure, {group.name: [0, 2]})
    smaller, plan = remove(net, structure, identify(net, structure))
    return net, smaller, plan.layout


def test_a_model_stays_in_its_own_class_where_its_sizes_are_known() -> None:
    _, smaller, layout = shrink(mlp())
    assert (layout, type(smaller)) == ("native", Net)
    assert smaller.a.out_features == smaller.b.in_features == 6


def test_otherwise_it_runs_the_graph() -> None:
    net = mlp()
    net.function = hard_coded
    net, smaller, layout = shrink(net)
    assert layout == "graph"
    assert isinstance(smaller, GraphModel)
    assert_equal(call(net, X), call(smaller, X))


@pytest.mark.parametrize("function", [None, hard_coded])
def test_the_original_is_left_as_it_was(function: object) -> None:
    net = mlp()
    if function is not None:
        net.function = function
    net.train()
    net.a.bias.requires_grad_(False)
    structure = discover(net, X)
    zero_(net, structure, {"a": [1]})
    before = copy.deepcopy(net.state_dict())
    smaller, _ = remove(net, structure, identify(net, structure))
    assert net.training
    assert smaller.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    flags = {name: p.requires_grad for name, p in smaller.named_parameters()}
    assert flags == {"a.weight": True, "a.bias": False, "b.weight": True, "b.bias": True}
    with torch.no_grad():
        for parameter in smaller.parameters():
            parameter.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_nothing_removed_is_the_same_model() -> None:
    net = mlp()
    structure = discover(net, X)
    smaller, plan = remove(net, structure, identify(net, structure))
    assert (plan.removed, plan.kept, plan.patches) == ({}, {}, {})
    assert_equal(call(net, X), call(smaller, X), tolerance=0.0)


def test_the_smaller_model_trains() -> None:
    _, smaller, _ = shrink(mlp())
    smaller.train()
    smaller(X).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in smaller.parameters())


def test_tensors_that_nothing_reads_are_copied_and_gradients_are_not() -> None:
    net = mlp()
    net.norm = nn.BatchNorm1d(3)
    net.also = net.norm
    structure = discover(net, X)
    net(X).sum().backward()
    zero_(net, structure, {"a": [1]})
    smaller, _ = remove(net, structure, identify(net, structure))
    assert torch.equal(smaller.norm.weight, net.norm.weight)
    assert smaller.norm.weight.data_ptr() != net.norm.weight.data_ptr()
    assert smaller.norm.running_mean.data_ptr() != net.norm.running_mean.data_ptr()
    assert smaller.also is smaller.norm
    assert all(parameter.grad is None for parameter in smaller.parameters())
    assert net.a.weight.grad is not None


def test_groups_of_single_tensors_cannot_be_removed() -> None:
    net = mlp()
    with pytest.raises(ValueError, match="remove needs the structure of discover"):
        remove(net, input_channel_structure(net), Support({}, {}))


def test_float32_weights_stay_float32() -> None:
    net, smaller, layout = shrink_float32()
    assert layout == "native"
    assert {p.dtype for p in smaller.parameters()} == {torch.float32}
    wide = copy.deepcopy(smaller).double()
    assert_equal(call(copy.deepcopy(net).double(), X), call(wide, X))


def shrink_float32() -> tuple[nn.Module, nn.Module, str]:
    net = mlp().float()
    structure = discover(net, X.float())
    zero_(net, structure, {"a": [0, 5]})
    smaller, plan = remove(net, structure, identify(net, structure))
    return net, smaller, plan.layout


def test_a_shortcut_padded_with_zeros_shrinks_as_a_graph() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.a(x)
        return m.b(F.pad(y, (2, 2)) + m.c(y))

    net = randomize_(Net(forward, a=nn.Linear(5, 4), c=nn.Linear(4, 8), b=nn.Linear(8, 2)))
    structure = discover(net, X)
    zero_(net, structure, {group.name: [0] for group in structure.groups})
    smaller, plan = remove(net, structure, identify(net, structure))
    assert plan.layout == "graph"
    assert_equal(call(net, X), call(smaller, X))


def test_kept_positions_are_the_complement_of_the_removed() -> None:
    net = mlp()
    graph = discover(net, X).graph
    assert graph is not None
    kept = KeptPositions.of_channels(graph, {"a": [1, 3]})
    weight = graph.trace.parameters["a.weight"]
    rows, columns = kept.masks(weight)
    assert rows is not None
    assert rows.tolist() == [True, False, True, False, True, True, True, True]
    assert columns is None
    assert kept.shape(weight) == (6, 5)
