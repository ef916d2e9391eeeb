"""Costs against torch's own counter of floating-point operations, before and after removal."""

from collections.abc import Callable

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ramda_cli.structure import discover, identify, input_channel_structure, zero_
from ramda_cli.structure.cost import CostModel, Size
from ramda_cli.surgery import remove
from tests.structure.exactness import choose


class Grouped(nn.Module):
    """Plain, grouped, depthwise and transposed convolution, a residual sum and a flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.grouped = nn.Conv2d(12, 24, 3, padding=1, groups=4)
        self.depthwise = nn.Conv2d(24, 24, 5, padding=2, groups=24)
        self.squeeze = nn.Conv2d(24, 12, 1)
        self.up = nn.ConvTranspose2d(12, 10, 2, stride=2)
        self.fc = nn.Linear(10 * 8 * 8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (x + self.squeeze(self.depthwise(self.grouped(x).relu()))).relu()
        return self.fc(nn.functional.adaptive_avg_pool2d(self.up(x).relu(), 8).flatten(1))


class Chain(nn.Module):
    """Three layers one after the other: no group meets itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(6 * 4 * 4, 10), nn.ReLU(), nn.Linear(10, 4),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Recurrent(nn.Module):
    """An LSTM in both directions, and a cell for as many steps."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 6, num_layers=2, batch_first=True, bidirectional=True)
        self.cell = nn.LSTMCell(12, 8)
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x, state = self.lstm(x)[0], None
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return self.out(state[0])


class Positions(nn.Module):
    """A layer on positions, which a batch shares, and one on a query for each example."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(3, 7)
        self.positions = nn.Linear(4, 7)
        self.register_buffer("distances", torch.randn(6, 4))
        self.query = nn.Parameter(torch.randn(5, 7))
        self.ask = nn.Linear(7, 7)

    def forward(self, x: Tensor) -> Tensor:
        keys = self.into(x) + self.positions(self.distances)
        asked = self.ask(self.query.expand(x.shape[0], -1, -1))
        return asked @ keys.transpose(1, 2)


class Sums(nn.Module):
    """Attention by einsum: with an ellipsis, of three operands, without an arrow, and outer."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(3, 3 * 4 * 5, 4, stride=4)
        self.mix = nn.Parameter(torch.randn(4, 6))
        self.out = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).flatten(2).unflatten(1, (3, 4, 5)).unbind(1)
        weights = torch.einsum("...di,...dj->...ij", q, k).softmax(-1)
        x = torch.einsum("bhij,bhdj,hc->bic", weights, v, self.mix)
        x = torch.einsum("bi,bj->bij", x.mean(2), x.mean(1)).mean(1)
        return self.out(torch.einsum("bi,ij", x, torch.eye(6)))


def vit() -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=5)


MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet18": (lambda: timm.create_model("resnet18", num_classes=5), 64),
    "vit": (vit, 32),
    "grouped": (Grouped, 16),
    "einsum": (Sums, 16),
}


@torch.no_grad()
def counted(model: nn.Module, side: int) -> tuple[int, int]:
    """Return multiply-accumulates of one image and trainable elements."""
    image = torch.zeros(1, 3, side, side)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.eval()(image)
    params = sum(p.numel() for p in model.parameters())
    return counter.get_total_flops() // 2, params


@pytest.mark.parametrize("name", MODELS)
def test_costs_are_those_of_the_smaller_model(name: str) -> None:
    build, side = MODELS[name]
    torch.manual_seed(0)
    model = build()
    structure = discover(model, torch.randn(2, 3, side, side))
    cost = CostModel(structure)
    dense = cost.size()
    assert (dense.macs, dense.params) == counted(model, side)
    assert dense.channels == sum(group.channels for group in structure.groups)

    zero_(model, structure, choose(structure, 0.3))
    support = identify(model, structure)
    kept = cost.kept(support.removable)
    smaller, _ = remove(model, structure, support)
    size = cost.size(kept)
    assert (size.macs, size.params) == counted(smaller, side)
    removed = sum(len(channels) for channels in support.removable.values())
    assert size.channels == dense.channels - removed
    for metric in ("macs", "params", "channels"):
        assert cost.measure(metric, kept) == getattr(size, metric)
    for each, counts in ((model, cost.channels), (smaller, kept)):
        held = sum(t.numel() * t.element_size() for t in each.state_dict().values())
        assert cost.measure("size_mb", counts) == held


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_batch_of_the_example_does_not_matter(batch: int) -> None:
    model = Chain()
    cost = CostModel(discover(model, torch.zeros(batch, 3, 8, 8)))
    assert (cost.size().macs, cost.size().params) == counted(model, 8)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_what_a_batch_shares_counts_whole(batch: int) -> None:
    cost = CostModel(discover(Positions(), torch.zeros(batch, 6, 3)))
    assert cost.size().macs == 6 * 3 * 7 + 6 * 4 * 7 + 5 * 7 * 7 + 5 * 6 * 7


def test_in_a_chain_costs_are_affine_in_the_kept_channels_of_each_group() -> None:
    cost = CostModel(discover(Chain(), torch.zeros(2, 3, 8, 8)))
    start = np.array([3.0, 2.0, 4.0])
    for number in range(len(cost.names)):
        step = np.eye(len(cost.names))[number]
        for metric in ("macs", "params", "channels"):
            line = [cost.measure(metric, start + count * step) for count in range(4)]
            slopes = np.diff(line)
            assert slopes[0] > 0
            assert (slopes == slopes[0]).all()


def test_no_channels_cost_what_is_fixed() -> None:
    model = Chain()
    cost = CostModel(discover(model, torch.zeros(2, 3, 8, 8)))
    # Nothing is left but the last bias: every product has a factor that is gone.
    assert cost.size(np.zeros(3)) == Size(macs=0, params=4, channels=0)


def test_single_tensor_groups_have_no_costs() -> None:
    with pytest.raises(ValueError, match=r"^costs need the structure of discover\(\)"):
        CostModel(input_channel_structure(Chain()))


def test_an_lstm_costs_its_matrices_at_every_step() -> None:
    """Written out, since torch's counter does not know its operators."""

    def macs(units: int, cells: int, steps: int = 3) -> int:
        layers = 2 * 4 * units * (5 + units) + 2 * 4 * units * (2 * units + units)
        return steps * (layers + 4 * cells * (2 * units + cells)) + 2 * cells

    structure = discover(Recurrent(), torch.randn(2, 3, 5))
    cost = CostModel(structure)
    assert cost.size().macs == macs(6, 8)
    kept = cost.kept({"lstm": [0, 3], "cell": [1, 2, 5]})
    assert cost.size(kept).macs == macs(4, 5)
