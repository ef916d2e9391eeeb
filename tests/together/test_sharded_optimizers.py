"""Processes that hold some rows of each parameter take the steps of one that holds them all."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from ramda_cli.config.schema import TargetConfig
from ramda_cli.optimizers import RAMDA, ProxGen, ProximalOptimizer, ProxSGD, penalties
from ramda_cli.optimizers.low_rank import LowRankPenalty
from ramda_cli.regularizers import GroupLasso, NuclearNorm
from ramda_cli.structure import discover
from ramda_cli.structure.cost import CostModel
from ramda_cli.training import plan_budget
from ramda_cli.training.processes import join
from ramda_cli.training.rules import BudgetRule
from tests.together.forked import together

STEPS, BATCH = 50, 24


class Net(nn.Module):
    """Widths that no number of processes divides; the last layer has fewer rows than there are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 13, 3, padding=1)
        self.inner = nn.ModuleList([nn.Linear(13, 13), nn.Linear(13, 21)])
        self.norm = nn.LayerNorm(21)
        self.head = nn.Linear(21, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu().mean((2, 3))
        for layer in self.inner:
            x = layer(x).relu()
        return self.head(x)


def net() -> Net:
    torch.manual_seed(0)
    return Net()


def batches() -> list[tuple[Tensor, Tensor]]:
    draws = torch.Generator().manual_seed(1)
    labels = torch.randint(3, (STEPS, BATCH), generator=draws)
    images = torch.randn(STEPS, BATCH, 2, 6, 6, generator=draws) + labels[..., None, None, None]
    return [*zip(images, labels, strict=True)]


def by_budget(model: nn.Module) -> ProximalOptimizer:
    structure = discover(net(), torch.zeros(2, 2, 6, 6))
    budget = plan_budget(CostModel(structure), TargetConfig(macs=0.5), floor=0.1)
    rule = BudgetRule(budget, warm_up_steps=5, ramp_steps=30, freeze_step=40)
    of = penalties(structure, GroupLasso(0.0))
    return RAMDA(model.named_parameters(), of, lr=1e-2, momentum=0.1, thresholds=rule)


def by_weight(model: nn.Module) -> ProximalOptimizer:
    of = penalties(discover(net(), torch.zeros(2, 2, 6, 6)), GroupLasso(3e-3))
    return RAMDA(model.named_parameters(), of, lr=1e-2, momentum=0.1)


def by_proximal_gradient(model: nn.Module) -> ProximalOptimizer:
    of = penalties(discover(net(), torch.zeros(2, 2, 6, 6)), GroupLasso(3e-3))
    return RAMDA(model.named_parameters(), of, lr=1e-2, momentum=0.1, solver="pg")


def adam(model: nn.Module) -> ProximalOptimizer:
    of = penalties(discover(net(), torch.zeros(2, 2, 6, 6)), GroupLasso(3e-3))
    return ProxGen(model.named_parameters(), of, lr=3e-3)


def sgd(model: nn.Module) -> ProximalOptimizer:
    of = penalties(discover(net(), torch.zeros(2, 2, 6, 6)), GroupLasso(3e-2))
    return ProxSGD(model.named_parameters(), of, lr=1e-1)


def train(make: Callable[[nn.Module], ProximalOptimizer]) -> Any:
    """Train for all batches, each process on its part; return weights, zeros and the state."""
    processes = join()
    rank, count, model = processes.rank, processes.count, net()
    # Their steps make more of rounding: larger ones, and a rule when to stop.
    doubled = make in (by_proximal_gradient, sgd)
    model.to(torch.float64 if doubled else torch.float32)
    if processes.several:
        for layer in model.inner:
            fully_shard(layer)
        fully_shard(model)
    optimizer, state = make(model), None
    for number, (images, labels) in enumerate(batches()):
        if number == STEPS // 2:
            state = copy.deepcopy(optimizer.state_dict())
            weights = full(model)
        part = slice(rank * BATCH // count, (rank + 1) * BATCH // count)
        optimizer.zero_grad()
        outputs = model(images[part].to(model.head.bias.dtype))
        nn.functional.cross_entropy(outputs, labels[part]).backward()
        optimizer.step()
    optimizer.snap_()
    return full(model), optimizer.solution_zero.numpy(), (weights, state)


def full(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: (p.full_tensor() if hasattr(p, "full_tensor") else p).detach().clone()
        for name, p in model.named_parameters()
    }


@pytest.mark.parametrize(
    ("count", "make"),
    [
        (4, by_budget),
        *(
            pytest.param(count, make, marks=pytest.mark.slow)
            for count in (2, 4)
            for make in (by_budget, by_weight, by_proximal_gradient, adam, sgd)
        ),
    ],
)
def test_fifty_steps_are_those_of_one_process(
    count: int, make: Callable[[nn.Module], ProximalOptimizer], tmp_path: Path
) -> None:
    expected, zero, _ = train(make)
    assert 0 < zero.mean() < 1
    for weights, found, _ in together(count, train, make, folder=tmp_path):
        assert np.array_equal(found, zero)
        for name in expected:
            assert torch.allclose(weights[name], expected[name], rtol=0, atol=1e-6), name
            assert torch.equal(weights[name] == 0, expected[name] == 0)


def go_on(make: Callable[[nn.Module], ProximalOptimizer], weights: Any, state: Any) -> Any:
    processes = join()
    rank, count, model = processes.rank, processes.count, net()
    model.load_state_dict(weights)
    fully_shard(model)
    optimizer = make(model)
    optimizer.load_state_dict(state)
    for images, labels in batches()[STEPS // 2 :]:
        part = slice(rank * BATCH // count, (rank + 1) * BATCH // count)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[part]), labels[part]).backward()
        optimizer.step()
    optimizer.snap_()
    return full(model)


def test_the_state_is_that_of_the_whole_and_any_number_of_processes_goes_on(
    tmp_path: Path,
) -> None:
    expected, _, (weights, state) = train(by_budget)
    for _, _, (_, sharded) in together(2, train, by_budget, folder=tmp_path):
        for number, mine in state["state"].items():
            # Kernels guess otherwise where to look for a root.
            for key, value in ((k, v) for k, v in mine.items() if k != "solution_ratios"):
                theirs = sharded["state"][number][key]
                assert theirs.shape == value.shape
                assert torch.allclose(theirs, value, rtol=1e-4, atol=1e-5), key
    for found in together(4, go_on, by_budget, weights, state, folder=tmp_path):
        for name in expected:
            assert torch.allclose(found[name], expected[name], rtol=0, atol=1e-6), name


def refused() -> str:
    join()
    model = net()
    fully_shard(model.inner[0])
    of = penalties(discover(net(), torch.zeros(2, 2, 6, 6)), GroupLasso(1e-2))
    messages = []
    for penalized in (of, [LowRankPenalty("inner.0.weight", NuclearNorm(1.0))]):
        try:
            RAMDA(model.named_parameters(), penalized, lr=1e-2)
        except ValueError as error:
            messages.append(str(error))
    return " ".join(messages)


def test_what_cannot_be_sharded_is_refused(tmp_path: Path) -> None:
    (message, _) = together(2, refused, folder=tmp_path)
    assert "must all be sharded over the same processes" in message
    assert "a nuclear norm needs whole matrices" in message
