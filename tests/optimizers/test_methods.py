"""Every method against its dense counterpart, its update written out, and a problem's solution."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ramda_cli.optimizers import (
    RAMDA,
    RMDA,
    ProxGen,
    ProximalOptimizer,
    ProxSGD,
    ProxSSI,
)
from ramda_cli.subproblem import ProximalGradient
from tests.optimizers.problems import (
    channel_values,
    groups,
    parameters,
    penalized,
    set_channel_values,
    set_gradients,
)
from tests.reference import group_lasso_solution

Named = dict[str, nn.Parameter]
METHODS = [RAMDA, RMDA, ProxSGD, ProxGen, ProxSSI]


def _assert_equal(one: Named, other: Named, rtol: float) -> None:
    for name, parameter in one.items():
        torch.testing.assert_close(parameter.detach(), other[name].detach(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 3e-5)])
@pytest.mark.parametrize(
    ("method", "dense"),
    [
        (
            lambda p: ProxSGD(
                p.items(), penalized(0.0, 0.0), lr=0.03, momentum=0.8, weight_decay=0.1
            ),
            lambda p: torch.optim.SGD(p.values(), lr=0.03, momentum=0.8, weight_decay=0.1),
        ),
        (
            lambda p: ProxGen(p.items(), penalized(0.0, 0.0), lr=0.03, weight_decay=0.1, eps=1e-6),
            lambda p: torch.optim.AdamW(p.values(), lr=0.03, weight_decay=0.1, eps=1e-6),
        ),
        (
            lambda p: ProxSSI(p.items(), penalized(0.0, 0.0), lr=0.03, betas=(0.8, 0.95)),
            lambda p: torch.optim.Adam(p.values(), lr=0.03, betas=(0.8, 0.95)),
        ),
    ],
    ids=["ProxSGD", "ProxGen", "ProxSSI"],
)
def test_without_weight_a_method_is_its_dense_counterpart(
    method: Callable[[Named], ProximalOptimizer],
    dense: Callable[[Named], torch.optim.Optimizer],
    dtype: torch.dtype,
    rtol: float,
):
    one, other = parameters(dtype), parameters(dtype)
    proximal, plain = method(one), dense(other)
    for step in range(30):
        set_gradients(one, step)
        for name, parameter in other.items():
            parameter.grad = one[name].grad.clone()
        proximal.step()
        plain.step()
    _assert_equal(one, other, rtol)


def _rmda(named: Named) -> Callable[[dict[str, Tensor]], dict[str, tuple[Tensor, Tensor, float]]]:
    anchor = {name: p.detach().clone() for name, p in named.items()}
    v = {name: torch.zeros_like(x) for name, x in anchor.items()}
    t, alpha = 0, 0.0

    def step(gradients: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor, float]]:
        nonlocal t, alpha
        t += 1
        alpha += 0.1 * math.sqrt(t)
        out = {}
        for name, g in gradients.items():
            v[name] += 0.1 * math.sqrt(t) * g
            d = torch.full_like(g, math.sqrt(t))
            out[name] = (d * anchor[name] - v[name], d, alpha)
        return out

    return step


def _prox_sgd(
    named: Named,
) -> Callable[[dict[str, Tensor]], dict[str, tuple[Tensor, Tensor, float]]]:
    m = {name: torch.zeros_like(p) for name, p in named.items()}
    alpha = 0.0

    def step(gradients: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor, float]]:
        nonlocal alpha
        out = {}
        alpha = 0.9 * alpha + 1.0
        for name, g in gradients.items():
            m[name] = 0.9 * m[name] + g
            d = torch.full_like(g, 1 / 0.1)
            out[name] = (d * named[name].detach() - m[name], d, alpha)
        return out

    return step


def _prox_gen(
    named: Named,
) -> Callable[[dict[str, Tensor]], dict[str, tuple[Tensor, Tensor, float]]]:
    m = {name: torch.zeros_like(p) for name, p in named.items()}
    v = {name: torch.zeros_like(p) for name, p in named.items()}
    t = 0

    def step(gradients: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor, float]]:
        nonlocal t
        t += 1
        out = {}
        for name, g in gradients.items():
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g**2
            d = ((v[name] / (1 - 0.999**t)).sqrt() + 1e-8) / 0.1
            decayed = (1 - 0.1 * 0.2) * named[name].detach()
            out[name] = (d * decayed - m[name] / (1 - 0.9**t), d, 1.0)
        return out

    return step


@pytest.mark.parametrize("weights", [(0.0, 0.0), (0.05, 0.02), (0.5, 0.4), (1e3, 0.3)])
@pytest.mark.parametrize(
    ("build", "written_out", "momentum"),
    [
        (lambda p, w: RMDA(p.items(), penalized(*w), lr=0.1, momentum=0.3), _rmda, 0.3),
        (lambda p, w: ProxSGD(p.items(), penalized(*w), lr=0.1), _prox_sgd, 1.0),
        (
            lambda p, w: ProxGen(p.items(), penalized(*w), lr=0.1, weight_decay=0.2),
            _prox_gen,
            1.0,
        ),
    ],
    ids=["RMDA", "ProxSGD", "ProxGen"],
)
def test_the_update_is_the_published_one(
    build: Callable[[Named, tuple[float, float]], ProximalOptimizer],
    written_out: Callable[[Named], Any],
    momentum: float,
    weights: tuple[float, float],
):
    named = parameters()
    optimizer = build(named, weights)
    reference = written_out(named)
    for seed in range(4):
        set_gradients(named, seed)
        subproblem = reference({name: p.grad for name, p in named.items()})
        solution = {name: w / d for name, (w, d, _) in subproblem.items()}
        for weight, each in zip(weights, groups(), strict=True):
            for channel in range(each.channels):
                w = channel_values({n: x[0] for n, x in subproblem.items()}, each, channel)
                d = channel_values({n: x[1] for n, x in subproblem.items()}, each, channel)
                scale = next(iter(subproblem.values()))[2]
                p = group_lasso_solution(w, d, scale * weight * math.sqrt(len(w)))
                set_channel_values(solution, each, channel, p)
        expected = {n: p.detach().lerp(solution[n], momentum) for n, p in named.items()}
        optimizer.step()
        for name, parameter in named.items():
            torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-8, atol=1e-9)


def test_prox_ssi_and_prox_gen_are_one_method_solved_twice():
    one, other = parameters(), parameters()
    gen = ProxGen(one.items(), penalized(0.3, 0.2), lr=0.05)
    ssi = ProxSSI(other.items(), penalized(0.3, 0.2), lr=0.05)
    zeros = 0
    for step in range(40):
        set_gradients(one, step)
        for name, parameter in other.items():
            parameter.grad = one[name].grad.clone()
        gen.step()
        ssi.step()
        assert torch.equal(gen.solution_zero, ssi.solution_zero)
        zeros += int(gen.solution_zero.sum())
    assert zeros > 0
    _assert_equal(one, other, 1e-9)


@pytest.mark.parametrize("method", [RAMDA, ProxGen])
def test_proximal_gradient_follows_the_exact_solver(method: type[RAMDA] | type[ProxGen]):
    exact, tight, loose = (parameters() for _ in range(3))
    tightly = ProximalGradient(tolerance=1e-9, relative_decrease=None, max_iterations=20_000)
    optimizers = [
        method(exact.items(), penalized(0.1, 0.05), lr=0.05),
        method(tight.items(), penalized(0.1, 0.05), lr=0.05, solver=tightly),
        method(loose.items(), penalized(0.1, 0.05), lr=0.05, solver="pg"),
    ]
    for step in range(10):
        set_gradients(exact, step)
        for named in (tight, loose):
            for name, parameter in named.items():
                parameter.grad = exact[name].grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert float(optimizers[1].certificate) <= 1e-9
    assert float(optimizers[2].certificate) > float(optimizers[0].certificate)
    _assert_equal(exact, tight, 1e-6)
    _assert_equal(exact, loose, 1e-1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_resume_is_bit_equal(method: type[ProximalOptimizer], dtype: torch.dtype):
    def build(named: Named) -> ProximalOptimizer:
        return method(named.items(), penalized(0.1, 0.05), lr=0.05)  # type: ignore[call-arg]

    straight = parameters(dtype)
    optimizer = build(straight)
    for step in range(8):
        set_gradients(straight, step)
        optimizer.step()
    first = parameters(dtype)
    optimizer = build(first)
    for step in range(4):
        set_gradients(first, step)
        optimizer.step()
    second = {name: nn.Parameter(p.detach().clone()) for name, p in first.items()}
    resumed = build(second)
    resumed.load_state_dict(optimizer.state_dict())
    for step in range(4, 8):
        set_gradients(second, step)
        resumed.step()
    assert all(torch.equal(straight[name], second[name]) for name in straight)


@pytest.mark.parametrize("method", METHODS)
def test_a_parameter_without_gradient_stays(method: type[ProximalOptimizer]):
    named = parameters(torch.float32)
    before = {name: p.detach().clone() for name, p in named.items()}
    optimizer = method(named.items(), penalized(10.0, 10.0), lr=0.05)  # type: ignore[call-arg]
    for step in range(3):
        set_gradients(named, step)
        named["gate.weight"].grad = None
        optimizer.step()
    assert torch.equal(before["gate.weight"], named["gate.weight"])
    assert torch.equal(before["norm.weight"], named["norm.weight"])  # of the same channels
    assert not torch.equal(before["free.weight"], named["free.weight"])


@pytest.mark.parametrize(
    ("method", "setting", "message"),
    [
        (RMDA, {"lr": 0.0}, r"lr must be > 0, got 0\.0"),
        (RMDA, {"momentum": 1.5}, r"momentum must be in \(0, 1\], got 1\.5"),
        (ProxSGD, {"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1\.0"),
        (ProxSGD, {"lr": -1.0}, r"lr must be > 0, got -1\.0"),
        (ProxSGD, {"weight_decay": -1.0}, r"weight_decay must be >= 0, got -1\.0"),
        (ProxGen, {"eps": 0.0}, r"eps must be > 0, got 0\.0"),
        (ProxGen, {"betas": (0.9, 1.0)}, r"betas must be in \[0, 1\), got \(0\.9, 1\.0\)"),
        (ProxSSI, {"weight_decay": -1.0}, r"weight_decay must be >= 0, got -1\.0"),
        (ProxGen, {"solver": "newton"}, "solver must be 'exact' or 'pg', got 'newton'"),
    ],
)
def test_bad_settings_are_rejected(
    method: type[ProximalOptimizer], setting: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=message):
        method(parameters().items(), penalized(), **setting)  # type: ignore[arg-type]
