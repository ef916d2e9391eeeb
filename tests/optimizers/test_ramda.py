"""RAMDA against the published update written out, and what a training loop asks of it."""

import math

import pytest
import torch
from torch import Tensor, nn

from ramda_cli.optimizers import RAMDA, Penalty
from ramda_cli.regularizers import GroupLasso
from ramda_cli.subproblem import Groups, secular
from tests.optimizers.problems import (
    channel_values,
    group,
    groups,
    parameters,
    penalized,
    set_channel_values,
    set_gradients,
)
from tests.reference import group_lasso_solution, relative_kkt


class Published:
    """Algorithm 1 of the RAMDA paper, with an exact subproblem, one group at a time."""

    def __init__(
        self, named: dict[str, nn.Parameter], weights: tuple[float, float], *, eps: float
    ) -> None:
        self.x = {name: p.detach().clone().double() for name, p in named.items()}
        self.anchor = {name: x.clone() for name, x in self.x.items()}
        self.v = {name: torch.zeros_like(x) for name, x in self.x.items()}
        self.u = {name: torch.zeros_like(x) for name, x in self.x.items()}
        self.weights, self.eps, self.t, self.alpha = weights, eps, 0, 0.0
        self.zero: list[bool] = []

    def step(self, gradients: dict[str, Tensor], *, lr: float, momentum: float) -> None:
        self.t += 1
        s = lr * math.sqrt(self.t)
        self.alpha += s
        solution, d = {}, {}
        for name, g in gradients.items():
            self.v[name] = self.v[name] + s * g
            self.u[name] = self.u[name] + s * g**2
            d[name] = self.u[name] ** (1 / 3) + self.eps
            solution[name] = self.anchor[name] - self.v[name] / d[name]
        w = {name: d[name] * self.anchor[name] - self.v[name] for name in d}
        self.zero = []
        for weight, each in zip(self.weights, groups(), strict=True):
            for channel in range(each.channels):
                w_channel = channel_values(w, each, channel)
                shrinkage = self.alpha * weight * math.sqrt(len(w_channel))
                p = group_lasso_solution(w_channel, channel_values(d, each, channel), shrinkage)
                set_channel_values(solution, each, channel, p)
                self.zero.append(not p.any())
        for name in self.x:
            self.x[name] = (1 - momentum) * self.x[name] + momentum * solution[name]


@pytest.mark.parametrize("momentum", [0.3, 1.0])
@pytest.mark.parametrize("weights", [(0.0, 0.0), (0.05, 0.02), (0.5, 0.4), (1e3, 0.3)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_matches_the_published_update(
    dtype: torch.dtype, tolerance: float, weights: tuple[float, float], momentum: float
):
    named = parameters(dtype)
    optimizer = RAMDA(named.items(), penalized(*weights), lr=0.1, momentum=momentum, eps=1e-4)
    reference = Published(named, weights, eps=1e-4)
    for step in range(5):
        set_gradients(named, step)
        gradients = {name: p.grad.double() for name, p in named.items()}
        optimizer.step()
        reference.step(gradients, lr=0.1, momentum=momentum)
        assert optimizer.solution_zero.tolist() == reference.zero
        for name, parameter in named.items():
            torch.testing.assert_close(
                parameter.detach().double(), reference.x[name], rtol=tolerance, atol=tolerance
            )


def test_without_penalty_it_is_madgrad():
    named = parameters(torch.float32)
    optimizer = RAMDA(named.items(), lr=0.1, momentum=0.3)
    anchor = {name: p.detach().clone() for name, p in named.items()}
    x = dict(anchor)
    v = {name: torch.zeros_like(p) for name, p in anchor.items()}
    u = dict(v)
    for t in range(1, 11):
        set_gradients(named, t)
        optimizer.step()
        s = 0.1 * t**0.5
        for name, parameter in named.items():
            v[name], u[name] = v[name] + s * parameter.grad, u[name] + s * parameter.grad**2
            x[name] = 0.7 * x[name] + 0.3 * (anchor[name] - v[name] / (u[name] ** (1 / 3) + 1e-6))
            torch.testing.assert_close(parameter.detach(), x[name], rtol=1e-5, atol=1e-6)
    assert optimizer.solution_zero.shape == (0,)
    assert optimizer.weighted_group_sparsity() == 0.0


@pytest.mark.parametrize("seed", range(2))
def test_each_solution_meets_the_optimality_condition_in_fp32(seed: int):
    named = parameters(torch.float32, seed=seed)
    optimizer = RAMDA(named.items(), penalized(0.3, 0.2), lr=0.1, momentum=1.0)
    for step in range(10):
        set_gradients(named, step)
        optimizer.step()
        alpha = optimizer.param_groups[0]["step_size_sum"]
        state = {name: optimizer.state[p] for name, p in named.items()}
        d = {name: s["grad_sq_sum"].double() ** (1 / 3) + 1e-6 for name, s in state.items()}
        w = {name: d[name] * s["anchor"] - s["grad_sum"] for name, s in state.items()}
        for weight, each in zip((0.3, 0.2), groups(), strict=True):
            for channel in range(each.channels):
                p, w_channel, d_channel = (
                    channel_values(values, each, channel) for values in (named, w, d)
                )
                shrinkage = alpha * weight * math.sqrt(len(p))
                assert relative_kkt(p.detach(), w_channel, d_channel, shrinkage) <= 1e-6
    assert optimizer.certificate <= 1e-5


@pytest.mark.parametrize("weight_scale", [1.0, 1e-3])
def test_the_certificate_is_the_norm_of_the_smallest_subgradient(
    weight_scale: float, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(secular, "MAX_EVALUATIONS", 1)  # leaves an error that can be compared
    named = parameters()
    for parameter in named.values():
        parameter.data *= weight_scale
    optimizer = RAMDA(named.items(), penalized(0.3, 0.2), lr=0.1, momentum=1.0)
    set_gradients(named, 0)
    gradients = {name: p.grad for name, p in named.items()}
    anchors = {name: p.detach().clone() for name, p in named.items()}
    optimizer.step()
    d = {name: (0.1 * g**2) ** (1 / 3) + 1e-6 for name, g in gradients.items()}
    residual = {n: d[n] * (named[n].detach() - anchors[n]) + 0.1 * gradients[n] for n in named}
    squares = []
    for weight, each in zip((0.3, 0.2), groups(), strict=True):
        for channel in range(each.channels):
            p = channel_values(named, each, channel).detach()
            if p.any():
                shrink = 0.1 * weight * len(p) ** 0.5 * p / p.norm()
                left = channel_values(residual, each, channel) + shrink
                squares.append(float(left.square().sum()))
    assert optimizer.certificate.item() == pytest.approx(sum(squares) ** 0.5, rel=1e-6)
    assert optimizer.certificate > 1e-6


def test_the_norms_of_the_solution_are_kept():
    named = parameters()
    optimizer = RAMDA(named.items(), penalized(0.5, 0.4), lr=0.1, momentum=1.0)
    for step in range(3):
        set_gradients(named, step)
        optimizer.step()
    norms = [
        float(channel_values(named, each, channel).detach().norm())
        for each in groups()
        for channel in range(each.channels)
    ]
    assert min(norms) < max(norms)
    stored = optimizer.state[named["conv.weight"]]["solution_norms"]
    assert stored.tolist() == pytest.approx(norms, rel=1e-9)


@pytest.mark.parametrize("weights", [(0.01, 0.02), (1e3, 0.02)])
def test_the_last_solution_is_a_good_start(
    weights: tuple[float, float], monkeypatch: pytest.MonkeyPatch
):
    calls = 0
    evaluate = Groups.secular_sums

    def counting(groups: Groups, r: Tensor, shrinkage: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        return evaluate(groups, r, shrinkage)

    monkeypatch.setattr(Groups, "secular_sums", counting)
    named = parameters(torch.float32)
    optimizer = RAMDA(named.items(), penalized(*weights), lr=1e-4, fused=False)
    for _ in range(10):
        set_gradients(named, 0)
        optimizer.step()
    calls = 0
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()  # the same problem again: its solution is known
    assert calls == 1


def test_channels_become_exactly_zero_while_training():
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(20, 10, generator=generator) / 3)
    inputs = torch.randn(256, 10, generator=generator)
    targets = inputs[:, :2] @ torch.randn(2, 20, generator=generator)
    penalties = [Penalty(group("in", 10, ("weight", 1, [*range(10)])), GroupLasso(0.003))]
    optimizer = RAMDA([("weight", weight)], penalties, lr=0.03, momentum=1.0)
    for _ in range(150):
        optimizer.zero_grad()
        (inputs @ weight.T - targets).square().mean().backward()
        optimizer.step()
    zero = (weight == 0).all(dim=0)
    assert zero.tolist() == [False] * 2 + [True] * 8
    assert torch.equal(zero, optimizer.solution_zero)
    assert optimizer.weighted_group_sparsity().item() == pytest.approx(0.8)
