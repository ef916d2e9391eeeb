"""Layers of low rank as two: the same function, the same names around them, fewer entries."""

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from ramda_cli.optimizers.low_rank import truncate_
from ramda_cli.structure.matrices import largest_paying_rank
from ramda_cli.surgery.factorize import factorize, with_products


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, stride=2, padding=1, padding_mode="reflect")
        self.line = nn.Conv1d(16, 12, 5, dilation=2, bias=False)
        self.grouped = nn.Conv1d(12, 12, 3, groups=3)
        self.fc = nn.Linear(12, 20)
        self.head = nn.Linear(20, 10, bias=False)
        self.tied = nn.Linear(20, 10, bias=False)
        self.tied.weight = self.head.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.line(self.conv(x).flatten(2))
        x = self.fc(self.grouped(x).mean(-1)).relu()
        return self.head(x) + self.tied(x)


def low_rank(ranks: dict[str, int]) -> Net:
    torch.manual_seed(0)
    net = Net().eval()
    named = dict(net.named_parameters())
    for name, rank in ranks.items():
        truncate_(named[name], rank)
    return net


RANKS = {"conv.weight": 3, "line.weight": 4, "fc.weight": 2}


def test_the_smaller_model_computes_the_same() -> None:
    net = low_rank(RANKS)
    smaller, found = factorize(net, RANKS)
    assert dict(found.ranks) == {"conv": 3, "line": 4, "fc": 2}
    assert not found.dense
    x = torch.randn(2, 3, 8, 8)
    # In single precision up to rounding; with the weights that the factors stand for, exactly.
    torch.testing.assert_close(smaller(x), net(x), rtol=1e-4, atol=1e-6)
    exact = with_products(net, smaller, found)
    wide = copy.deepcopy(smaller).double()
    torch.testing.assert_close(wide(x.double()), exact(x.double()), rtol=1e-12, atol=1e-13)
    weights = dict(exact.named_parameters())
    for name, weight in net.named_parameters():
        error = torch.linalg.norm(weight.double() - weights[name])
        assert float(error) <= 1e-6 * float(torch.linalg.norm(weights[name]))


def test_it_has_fewer_parameters_and_leaves_the_original_alone() -> None:
    net = low_rank(RANKS)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    smaller, _ = factorize(net, RANKS)
    saved = 16 * 27 - 3 * (16 + 27) + 12 * 80 - 4 * (12 + 80) + 20 * 12 - 2 * (20 + 12)
    count = sum(p.numel() for p in net.parameters()) - sum(p.numel() for p in smaller.parameters())
    assert count == saved
    assert all(torch.equal(before[name], p) for name, p in net.named_parameters())
    assert "conv.down.weight" in smaller.state_dict()
    assert tuple(smaller.get_submodule("fc").weight.shape) == (20, 12)  # type: ignore[union-attr]


def test_what_stays_says_why() -> None:
    net = low_rank({})
    ranks = {"conv.weight": 11, "grouped.weight": 1, "head.weight": 2, "fc.weight": 7}
    smaller, found = factorize(net, ranks)
    assert dict(found.ranks) == {"fc": 7}
    assert dict(found.dense) == {
        "conv.weight": "rank 11 of 16 x 27 saves nothing; up to 10 would",
        "grouped.weight": "a Conv1d is not made of two layers",
        "head.weight": "it is shared with another layer",
    }
    assert type(smaller.get_submodule("conv")) is nn.Conv2d


def test_a_weight_of_rank_0_keeps_its_bias() -> None:
    net = low_rank({})
    with torch.no_grad():
        net.fc.weight.zero_()
    smaller, found = factorize(net, {"fc.weight": 0})
    assert dict(found.ranks) == {"fc": 1}
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(smaller(x), net(x))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
def test_models_of_timm_run_with_factors(name: str) -> None:
    size = {"img_size": 32, "depth": 2} if name.startswith("vit") else {}
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=10, **size).eval()
    ranks = {}
    for key, parameter in net.named_parameters():
        layer = net.get_submodule(key.rpartition(".")[0])
        if key.endswith("weight") and isinstance(layer, nn.Linear | nn.Conv2d):
            ranks[key] = min(parameter.shape[0], parameter[0].numel()) // 4
            truncate_(parameter, ranks[key])
    smaller, found = factorize(net, ranks)
    assert len(found.ranks) > len(ranks) // 2
    x = torch.randn(2, 3, 32, 32).double()
    exact = with_products(net, smaller, found)
    with torch.no_grad():
        torch.testing.assert_close(smaller.double()(x), exact(x), rtol=1e-9, atol=1e-9)


def test_a_layer_pays_up_to_a_rank() -> None:
    def pays(rank: int, rows: int, cols: int) -> bool:
        return rank * (rows + cols) < rows * cols

    for rows, cols in ((1, 5), (2, 2), (3, 3), (16, 27), (784, 512)):
        most = largest_paying_rank(rows, cols)
        assert not pays(most + 1, rows, cols)
        assert most == 0 or pays(most, rows, cols)


@pytest.mark.parametrize(
    ("ranks", "message"),
    [({"fc.wait": 1}, "no parameter is named 'fc.wait'"), ({"fc.weight": -1}, "must be >= 0")],
)
def test_ranks_that_make_no_sense_are_refused(ranks: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        factorize(low_rank({}), ranks)


def test_a_layer_keeps_what_else_it_has() -> None:
    net = low_rank(RANKS).train()
    net.fc.bias.requires_grad_(False)
    net.conv.weight.requires_grad_(False)
    calls: list[nn.Module] = []
    net.line.register_forward_hook(lambda layer, *_: calls.append(layer))
    state = torch.get_rng_state()
    smaller, found = factorize(net, RANKS)
    assert torch.equal(torch.get_rng_state(), state)
    assert dict(found.ranks) == {"conv": 3, "fc": 2}
    assert found.dense["line.weight"] == "hooks are registered on it"
    trains = {name: p.requires_grad for name, p in smaller.named_parameters()}
    assert (trains["fc.up.weight"], trains["fc.down.weight"], trains["fc.up.bias"]) == (
        True,
        True,
        False,
    )
    assert (trains["conv.up.weight"], trains["conv.up.bias"]) == (False, True)
    assert all(layer.training for layer in smaller.modules())


def test_odd_weights_stay() -> None:
    net = nn.Sequential(nn.Linear(1, 5), nn.PReLU())
    net.register_parameter("scale", nn.Parameter(torch.ones(())))
    _, found = factorize(net, {"0.weight": 0, "1.weight": 1, "scale": 1, "0.bias": 1})
    assert not found.ranks
    assert dict(found.dense) == {
        "0.weight": "rank 1 of 5 x 1 saves nothing; no rank does",
        "1.weight": "a PReLU is not made of two layers",
        "scale": "a Sequential is not made of two layers",
        "0.bias": "a Linear is not made of two layers",
    }
    whole, found = factorize(nn.Linear(20, 20), {"weight": 2})
    assert type(whole) is nn.Linear
    assert dict(found.dense) == {"weight": "it is the whole model"}
