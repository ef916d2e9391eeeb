"""Group MCP in every optimizer: exact where D is constant in a channel, a group lasso elsewhere."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ramda_cli.optimizers import (
    RAMDA,
    RMDA,
    FixedWeights,
    Penalty,
    ProxGen,
    ProximalOptimizer,
    ProxSGD,
    ProxSSI,
    Threshold,
    ZeroTest,
)
from ramda_cli.optimizers.moving import Moving
from ramda_cli.regularizers import GroupLasso, GroupMCP
from ramda_cli.subproblem import ProximalGradient
from tests.optimizers.problems import channel_values, groups, parameters, set_gradients
from tests.reference import group_lasso_solution, group_mcp_solution

Named = dict[str, nn.Parameter]
Build = Callable[[Named, list[Penalty]], ProximalOptimizer]


def _penalized(weights: tuple[float, float], gamma: float | None) -> list[Penalty]:
    """Penalize trunk and side by group MCP, or by group lasso where there is no gamma."""
    return [
        Penalty(each, GroupLasso(weight) if gamma is None else GroupMCP(weight, gamma))
        for each, weight in zip(groups(), weights, strict=True)
    ]


def _channels(values: dict[str, Tensor]) -> list[Tensor]:
    return [channel_values(values, each, i) for each in groups() for i in range(each.channels)]


def _step(
    optimizer: ProximalOptimizer, named: Named, seed: int
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Take a step; return each channel's w, d and p."""
    set_gradients(named, seed)
    iterates = [p.detach().clone() for p in named.values()]
    optimizer.step()
    (param_group,) = optimizer.param_groups
    moving = [Moving(p, p.grad, optimizer.state[p], param_group) for p in named.values()]
    problem = optimizer.subproblem(moving)
    # The anchor of ProxSGD and ProxGen was the iterate before the step.
    anchors = problem.anchor if isinstance(optimizer, RAMDA | RMDA) else iterates
    parts = zip(anchors, problem.linear, problem.diagonal, strict=True)
    w = dict(zip(named, [d * x - v for x, v, d in parts], strict=True))
    d = dict(zip(named, problem.diagonal, strict=True))
    p = {name: parameter.detach().clone() for name, parameter in named.items()}
    return [*zip(_channels(w), _channels(d), _channels(p), strict=True)]


def _threshold(
    optimizer: ProximalOptimizer, weights: tuple[float, float], channel: int, w: Tensor
) -> float:
    """Return L = α λ √size; three channels are the trunk's."""
    scale = optimizer.scale(optimizer.param_groups[0])
    return scale * weights[channel >= 3] * math.sqrt(len(w))


@pytest.mark.parametrize(
    ("build", "weights", "gamma"),
    [
        (lambda p, x: RMDA(p.items(), x, lr=0.1, momentum=1.0), (2.0, 1.0), 2.0),
        (lambda p, x: ProxSGD(p.items(), x, lr=0.1), (5.0, 4.0), 2.0),
        (lambda p, x: ProxSGD(p.items(), x, lr=0.1), (9.0, 7.0), 1.2),
    ],
    ids=["RMDA", "ProxSGD", "ProxSGD, nearly hard"],
)
def test_the_step_minimises_its_nonconvex_problem(
    build: Build, weights: tuple[float, float], gamma: float
):
    named = parameters()
    optimizer = build(named, _penalized(weights, gamma))
    kinds = set()
    for seed in range(8):
        for channel, (w, d, p) in enumerate(_step(optimizer, named, seed)):
            threshold = _threshold(optimizer, weights, channel, w)
            expected = group_mcp_solution(w, float(d[0]), threshold, gamma)
            torch.testing.assert_close(p, expected, rtol=1e-8, atol=1e-10)
            kinds.add(_kind(float(w.norm()), threshold, gamma))
    assert kinds == {"zero", "shrunk", "free"}


def _kind(norm: float, threshold: float, gamma: float) -> str:
    return "zero" if norm <= threshold else "shrunk" if norm < gamma * threshold else "free"


@pytest.mark.parametrize(
    ("build", "weights"),
    [
        (lambda p, x: RAMDA(p.items(), x, lr=0.1, momentum=1.0), (0.3, 0.2)),
        (lambda p, x: ProxGen(p.items(), x, lr=0.05), (6.0, 4.0)),
        (lambda p, x: ProxSSI(p.items(), x, lr=0.05), (6.0, 4.0)),
    ],
    ids=["RAMDA", "ProxGen", "ProxSSI"],
)
def test_in_any_metric_the_step_solves_a_group_lasso_with_less_shrinkage(
    build: Build, weights: tuple[float, float]
):
    gamma = 2.0
    named = parameters()
    optimizer = build(named, _penalized(weights, gamma))
    kinds = set()
    for seed in range(10):
        for channel, (w, d, p) in enumerate(_step(optimizer, named, seed)):
            norm, threshold = float(w.norm()), _threshold(optimizer, weights, channel, w)
            kinds.add(kind := _kind(norm, threshold, gamma))
            shrinkage = {
                "zero": threshold,
                "shrunk": (gamma * threshold - norm) / (gamma - 1.0),
                "free": 0.0,
            }[kind]
            expected = group_lasso_solution(w, d, shrinkage)
            torch.testing.assert_close(p, expected, rtol=1e-7, atol=1e-9)
            if kind == "free":
                torch.testing.assert_close(p, w / d, rtol=1e-9, atol=1e-12)
    assert kinds == {"zero", "shrunk", "free"}


@pytest.mark.parametrize("method", [RAMDA, RMDA, ProxSGD, ProxGen, ProxSSI])
def test_at_the_same_state_the_zero_set_is_group_lassos(method: type[ProximalOptimizer]):
    counts = set()
    for weight in torch.logspace(-2, 2, 60).tolist():
        sets = []
        for gamma in (None, 1.5):
            named = parameters()
            penalties = _penalized((weight, weight), gamma)
            optimizer = method(named.items(), penalties, lr=0.1)  # type: ignore[call-arg]
            set_gradients(named, 0)
            optimizer.step()
            sets.append(optimizer.solution_zero)
        assert torch.equal(*sets)
        counts.add(int(sets[0].sum()))
    assert len(counts) >= 3


def test_the_zero_test_is_exact_at_the_threshold_and_above():
    # In fp32 the firm threshold must not make a channel zero that group lasso keeps.
    level = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    above = torch.nextafter(level, torch.tensor(2.0))
    rule = FixedWeights(level, torch.full((1000,), 1.01))
    sizes = torch.ones(1000)
    for crit, zero in ((level, True), (above, False)):
        test = ZeroTest(crit, sizes, sizes == 0, scale=1.0, change=lambda: sizes)
        threshold = rule(test)
        assert bool((threshold.zero == zero).all())
        assert bool(((crit * sizes.sqrt() <= threshold.shrinkage) == zero).all())


def test_penalties_of_both_kinds_share_a_model():
    trunk, side = groups()
    mixed = [Penalty(trunk, GroupLasso(0.3)), Penalty(side, GroupMCP(0.3, gamma=50.0))]
    named = parameters()
    optimizer = RAMDA(named.items(), mixed, lr=0.1, momentum=1.0)
    for channel, (w, d, p) in enumerate(_step(optimizer, named, 0)):
        threshold = _threshold(optimizer, (0.3, 0.3), channel, w)
        if channel >= 3:
            threshold -= (float(w.norm()) - threshold) / 49.0
        expected = group_lasso_solution(w, d, threshold)
        torch.testing.assert_close(p, expected, rtol=1e-7, atol=1e-9)
        assert bool(p.any())


def test_a_channel_without_a_gradient_stays():
    named = parameters(torch.float32)
    before = named["gate.weight"].detach().clone()
    optimizer = RAMDA(named.items(), _penalized((1e3, 1e3), 3.0), lr=0.1, momentum=1.0)
    set_gradients(named, 0)
    named["norm.weight"].grad = None
    optimizer.step()
    trunk = [6, 0, 3]
    assert torch.equal(named["gate.weight"][:, trunk], before[:, trunk])
    assert all(bool(torch.isfinite(p).all()) for p in named.values())


@pytest.mark.parametrize("gamma", [1.2, 3.0])
def test_proximal_gradient_follows_the_exact_solver(gamma: float):
    tightly = ProximalGradient(tolerance=1e-10, relative_decrease=None, max_iterations=20_000)
    ends = []
    for solver in ("exact", tightly):
        named = parameters()
        penalties = _penalized((0.2, 0.1), gamma)
        optimizer = RAMDA(named.items(), penalties, lr=0.05, momentum=1.0, solver=solver)
        for seed in range(5):
            set_gradients(named, seed)
            optimizer.step()
        ends.append(named)
    for name in ends[0]:
        torch.testing.assert_close(ends[0][name], ends[1][name], rtol=1e-6, atol=1e-7)


def test_a_rule_of_the_users_takes_the_place_of_gamma():
    def nothing(test: ZeroTest) -> Threshold:
        return Threshold(test.crit < 0, torch.zeros_like(test.crit))

    one, other = parameters(), parameters()
    with_rule = RAMDA(one.items(), _penalized((9.0, 9.0), 3.0), thresholds=nothing)
    free = RAMDA(other.items())
    for named, optimizer in ((one, with_rule), (other, free)):
        set_gradients(named, 0)
        optimizer.step()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-12, atol=1e-12)
