"""Nuclear norms in a step: against the update written out, and against the rank of a solution."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ramda_cli.optimizers import (
    RAMDA,
    RMDA,
    LowRankPenalty,
    Penalty,
    ProxGen,
    ProximalOptimizer,
    ProxSGD,
    carry_state_,
)
from ramda_cli.regularizers import GroupLasso, NuclearNorm
from ramda_cli.subproblem import AlternatingDirections, ProximalGradient, ProximalGradientSteps
from tests.optimizers.problems import group, parameters, set_gradients

EXACT = AlternatingDirections(tolerance=1e-12, max_iterations=5000)
MATRICES = ["conv.weight", "head.weight", "gate.weight"]


def low_rank(weight: float, names: list[str] = MATRICES) -> list[LowRankPenalty]:
    return [LowRankPenalty(name, NuclearNorm(weight)) for name in names]


def threshold(x: Tensor, limit: float) -> Tensor:
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    return left @ torch.diag((values - limit).clamp_min(0.0)) @ right


def minimised(anchor: Tensor, v: Tensor, d: Tensor, limit: float) -> Tensor:
    """Solve the subproblem by many steps of proximal gradient, in float64."""
    shape, rows = anchor.shape, anchor.shape[0]
    anchor, v, d = (each.reshape(rows, -1) for each in (anchor, v, d))
    rate, point = float(d.max()), anchor.clone()
    for _ in range(20000):
        moved = threshold(point - (v + d * (point - anchor)) / rate, limit / rate)
        if (moved - point).abs().max() < 1e-14:
            break
        point = moved
    return point.reshape(shape)


def test_ramda_takes_the_step_of_the_formula() -> None:
    named = parameters()
    lr, momentum, eps, weight = 0.1, 0.3, 1e-3, 0.05
    optimizer = RAMDA(
        named.items(), low_rank(weight),
        lr=lr, momentum=momentum, eps=eps, low_rank_solver=EXACT,
    )  # fmt: skip
    start = {name: p.detach().clone() for name, p in named.items()}
    expected = {name: p.detach().clone() for name, p in named.items()}
    sums = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in start.items()}
    scale = 0.0
    for step in range(1, 4):
        set_gradients(named, step)
        size = lr * math.sqrt(step)
        scale += size
        for name, parameter in named.items():
            assert parameter.grad is not None
            v, u = sums[name]
            v += size * parameter.grad
            u += size * parameter.grad.square()
            limit = weight * scale if name in MATRICES else 0.0
            d = u.pow(1 / 3) + eps
            closed = start[name] - v / d
            solution = minimised(start[name], v, d, limit) if limit else closed
            expected[name] += momentum * (solution - expected[name])
        optimizer.step()
        for name, parameter in named.items():
            torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("optimizer_class", [RMDA, ProxSGD])
def test_a_uniform_metric_takes_one_thresholding(
    optimizer_class: type[ProximalOptimizer],
) -> None:
    named = parameters()
    lr, weight = 0.1, 0.4
    settings = {"lr": lr, "momentum": 1.0} if optimizer_class is RMDA else {"lr": lr}
    optimizer = optimizer_class(named.items(), low_rank(weight), **settings)  # type: ignore[arg-type]
    start = {name: p.detach().clone() for name, p in named.items()}
    set_gradients(named, 1)
    optimizer.step()
    for name in MATRICES:
        gradient = named[name].grad
        assert gradient is not None
        rows = start[name].shape[0]
        # The first step of RMDA has s = α = lr and D = 1; that of ProxSGD D = 1/lr and α = 1.
        expected = threshold((start[name] - lr * gradient).reshape(rows, -1), lr * weight)
        torch.testing.assert_close(named[name].detach().reshape(rows, -1), expected)
    assert float(optimizer.certificate) < 1e-12


@pytest.mark.parametrize("optimizer_class", [RAMDA, ProxGen])
def test_no_weight_is_no_regularizer(optimizer_class: type[ProximalOptimizer]) -> None:
    plain, penalized = parameters(), parameters()
    one = optimizer_class(plain.items(), [], lr=1e-2)  # type: ignore[call-arg]
    other = optimizer_class(  # type: ignore[call-arg]
        penalized.items(), low_rank(0.0), lr=1e-2, low_rank_solver=EXACT
    )
    for step in range(3):
        for named, optimizer in ((plain, one), (penalized, other)):
            set_gradients(named, step)
            optimizer.step()
    for name, parameter in plain.items():
        torch.testing.assert_close(penalized[name], parameter, rtol=1e-6, atol=1e-8)


def test_ranks_are_those_of_the_last_solution_and_snapping_gives_them_to_the_iterate() -> None:
    named = parameters(torch.float32)
    optimizer = RAMDA(named.items(), low_rank(0.5), lr=0.1, momentum=0.3)
    assert optimizer.ranks() == {
        "conv.weight": (5, 5),
        "head.weight": (4, 4),
        "gate.weight": (6, 6),
    }
    for step in range(8):
        set_gradients(named, step)
        optimizer.step()
    ranks = optimizer.ranks()
    assert 0 < sum(rank for rank, _ in ranks.values()) < 15
    level = 1 - sum(rank for rank, _ in ranks.values()) / 15
    assert optimizer.low_rank_level() == pytest.approx(level)
    optimizer.snap_()
    for name in MATRICES:
        matrix = named[name].detach().reshape(named[name].shape[0], -1).double()
        values = torch.linalg.svdvals(matrix)
        assert int((values > 1e-6 * values.max().clamp_min(1e-30)).sum()) == ranks[name][0]


def test_with_full_momentum_the_iterate_is_the_solution() -> None:
    named = parameters(torch.float32)
    optimizer = RAMDA(named.items(), low_rank(50.0), lr=0.1, momentum=1.0)
    set_gradients(named, 0)
    optimizer.step()
    assert optimizer.ranks()["gate.weight"][0] == 0
    assert not named["gate.weight"].any()


def test_a_resumed_run_goes_on_bit_by_bit() -> None:
    one = parameters(torch.bfloat16)
    optimizer = RAMDA(one.items(), low_rank(0.1), lr=0.1)
    for step in range(3):
        set_gradients(one, step)
        optimizer.step()
    other = {name: nn.Parameter(p.detach().clone()) for name, p in one.items()}
    resumed = RAMDA(other.items(), low_rank(0.1), lr=0.1)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(3, 6):
        for named, each in ((one, optimizer), (other, resumed)):
            set_gradients(named, step)
            each.step()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert optimizer.ranks() == resumed.ranks()


def test_channels_and_matrices_are_penalized_side_by_side() -> None:
    named = parameters(torch.float32)
    channels = Penalty(group("in", 3, ("conv.weight", 1, [0, 1, 2])), GroupLasso(10.0))
    optimizer = RAMDA(
        named.items(),
        [channels, *low_rank(0.5, ["gate.weight"])],
        lr=0.1,
        momentum=1.0,
        low_rank_solver=AlternatingDirections(tolerance=1e-2),
    )
    for step in range(3):
        set_gradients(named, step)
        optimizer.step()
    assert not named["conv.weight"].any()
    assert 0 < optimizer.ranks()["gate.weight"][0] < 6
    assert optimizer.solution_zero.all()


@pytest.mark.parametrize(
    ("penalties", "message"),
    [
        (low_rank(1.0, ["tail.weight"]), "tail.weight, which is not among the parameters"),
        (low_rank(1.0, ["norm.weight"]), r"norm.weight, which is no matrix: \(3,\)"),
        (low_rank(1.0, ["gate.weight"]) * 2, "two nuclear norms penalize gate.weight"),
        (
            [
                *low_rank(1.0, ["conv.weight"]),
                Penalty(group("in", 3, ("conv.weight", 1, [0, 1, 2])), GroupLasso(1.0)),
            ],
            "conv.weight is penalized by its channels and by its rank",
        ),
    ],
)
def test_what_cannot_be_penalized_is_refused(penalties: list[Penalty], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RAMDA(parameters().items(), penalties)


def test_kernels_do_not_take_a_nuclear_norm() -> None:
    named = parameters(torch.float32)
    optimizer = RAMDA(named.items(), low_rank(1.0), fused=True)
    set_gradients(named, 0)
    with pytest.raises(
        RuntimeError, match="fused=True, but there are no kernels for a nuclear norm"
    ):
        optimizer.step()


def test_other_penalties_are_refused_and_any_iterable_is_taken() -> None:
    with pytest.raises(TypeError, match="penalties must be Penalty or LowRankPenalty, got Nuclear"):
        RAMDA(parameters().items(), [NuclearNorm(1.0)])  # type: ignore[list-item]
    optimizer = RAMDA(parameters().items(), iter(low_rank(1.0)))  # type: ignore[arg-type]
    assert [*optimizer.ranks()] == MATRICES


def test_the_papers_solver_is_its_proximal_gradient() -> None:
    paper: dict[str, Any] = {"low_rank_solver": ProximalGradientSteps()}
    unstopped: dict[str, Any] = {"solver": ProximalGradient(relative_decrease=None)}
    five: dict[str, Any] = {"low_rank_solver": ProximalGradientSteps(relative_decrease=None)}
    found = []
    for settings in ({}, {"solver": "pg"}, paper, unstopped, five):
        named = parameters()
        optimizer = RAMDA(named.items(), low_rank(0.1), lr=0.1, **settings)
        set_gradients(named, 0)
        optimizer.step()
        found.append(float(optimizer.certificate))
    assert found[1] == found[2] != found[0]
    assert found[3] == found[4] != found[0]


def test_low_precision_is_the_rounded_master_after_snapping() -> None:
    named = parameters(torch.bfloat16)
    optimizer = RAMDA(named.items(), low_rank(0.5), lr=0.1, momentum=0.3)
    for step in range(8):
        set_gradients(named, step)
        optimizer.step()
    optimizer.snap_()
    for name in MATRICES:
        master = optimizer.state[named[name]]["master"]
        assert torch.equal(named[name], master.bfloat16())
        values = torch.linalg.svdvals(master.reshape(master.shape[0], -1).double())
        rank = optimizer.ranks()[name][0]
        assert int((values > 1e-6 * values.max().clamp_min(1e-30)).sum()) == rank


def test_a_matrix_without_a_gradient_is_left_alone() -> None:
    named = parameters(torch.float32)
    optimizer = RAMDA(named.items(), low_rank(0.5), lr=0.1, momentum=1.0)
    before = named["gate.weight"].detach().clone()
    set_gradients(named, 0)
    named["gate.weight"].grad = None
    optimizer.step()
    assert torch.equal(named["gate.weight"], before)
    assert optimizer.ranks()["gate.weight"] == (6, 6)
    assert not torch.equal(named["head.weight"], parameters(torch.float32)["head.weight"])


def test_convolutions_may_have_their_channels_innermost() -> None:
    results = []
    for form in (torch.contiguous_format, torch.channels_last):
        named = parameters(torch.float32)
        named["conv.weight"].data = named["conv.weight"].data.to(memory_format=form)
        optimizer = RAMDA(named.items(), low_rank(0.3), lr=0.1, momentum=0.5)
        for step in range(3):
            set_gradients(named, step)
            optimizer.step()
        results.append(named["conv.weight"].detach().contiguous())
    torch.testing.assert_close(*results)


def test_a_run_that_diverged_is_of_full_rank() -> None:
    named = parameters(torch.float32)
    optimizer = RAMDA(named.items(), low_rank(0.5), lr=0.1)
    set_gradients(named, 0)
    assert named["gate.weight"].grad is not None
    named["gate.weight"].grad[0, 0] = float("nan")
    optimizer.step()
    assert optimizer.ranks()["gate.weight"] == (6, 6)


def test_a_smaller_model_goes_on_where_the_larger_one_was() -> None:
    """The rank, which has not a weight's shape, is not carried as one."""
    named = parameters(torch.float32)
    dense = RAMDA(named.items(), low_rank(0.1), lr=0.1)
    set_gradients(named, 0)
    dense.step()
    kept = {"gate.weight": {1: [[0, 4]]}}
    smaller = {name: nn.Parameter(p.detach().clone()) for name, p in named.items()}
    smaller["gate.weight"] = nn.Parameter(named["gate.weight"].detach()[:, :4].clone())
    optimizer = RAMDA(smaller.items(), low_rank(0.1), lr=0.1)
    carry_state_(optimizer, dense, kept)
    state = optimizer.state[smaller["gate.weight"]]
    before = dense.state[named["gate.weight"]]
    assert "low_rank_rank" not in state
    assert torch.equal(state["low_rank_solution"], before["low_rank_solution"][:, :4])
    set_gradients(smaller, 1)
    optimizer.step()
    assert optimizer.ranks()["gate.weight"][1] == 4


def test_a_restart_keeps_the_last_ranks() -> None:
    named = parameters(torch.float32)
    optimizer = RAMDA(named.items(), low_rank(0.5), lr=0.1, momentum=1.0)
    set_gradients(named, 0)
    optimizer.step()
    ranks = optimizer.ranks()
    optimizer.restart()
    assert optimizer.ranks() == ranks
    set_gradients(named, 1)
    optimizer.step()
    assert all(p.isfinite().all() for p in named.values())


# Identification: matrix regression from noisy samples, whose regularized solution has rank 2


@pytest.fixture(scope="module")
def regression() -> tuple[Tensor, Tensor, float, int]:
    """Return inputs, targets, a weight and the rank of the solution, by an independent method."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = noise(400, 12)
    truth = noise(8, 2) @ noise(2, 12)
    targets = inputs @ truth.mT + noise(400, 8)
    weight, point = 0.4, torch.zeros(8, 12).double()
    rate = float(torch.linalg.matrix_norm(inputs, 2)) ** 2 / len(inputs)
    for _ in range(3000):
        gradient = (inputs @ point.mT - targets).mT @ inputs / len(inputs)
        point = threshold(point - gradient / rate, weight / rate)
    values = torch.linalg.svdvals(point)
    rank = int((values > 1e-9).sum())
    assert rank == 2
    return inputs, targets, weight, rank


def _ranks_at_the_end(
    optimizer_class: type[ProximalOptimizer],
    regression: tuple[Tensor, Tensor, float, int],
    settings: dict[str, float],
) -> set[int]:
    inputs, targets, weight, _ = regression
    parameter = nn.Parameter(torch.zeros(8, 12).double())
    penalty = LowRankPenalty("w", NuclearNorm(weight))
    optimizer = optimizer_class([("w", parameter)], [penalty], **settings)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    seen = set()
    for step in range(1500):
        batch = torch.randint(len(inputs), (4,), generator=generator)
        error = inputs[batch] @ parameter.detach().mT - targets[batch]
        parameter.grad = error.mT @ inputs[batch] / len(batch)
        optimizer.step()
        if step >= 1400:
            seen.add(optimizer.ranks()["w"][0])
    return seen


def test_ramda_finds_the_rank_of_the_solution_and_stays_there(
    regression: tuple[Tensor, Tensor, float, int],
) -> None:
    found = _ranks_at_the_end(RAMDA, regression, {"lr": 0.1, "momentum": 0.1})
    assert found == {regression[3]}


def test_proximal_sgd_never_stops_leaving_it(
    regression: tuple[Tensor, Tensor, float, int],
) -> None:
    found = _ranks_at_the_end(ProxSGD, regression, {"lr": 0.02})
    assert found != {regression[3]}
