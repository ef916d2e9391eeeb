"""The Triton kernels against the CPU ones: on a GPU where there is one, else in the interpreter."""

import importlib

import pytest
import torch
from torch import nn

from ramda_cli.optimizers import RAMDA, Penalty, Threshold, ZeroTest
from ramda_cli.optimizers.fused import choice, library
from ramda_cli.optimizers.fused.operands import Kernels
from ramda_cli.optimizers.fused.roots import Secular
from ramda_cli.optimizers.fused.tiles import cut
from ramda_cli.regularizers import GroupLasso
from tests.optimizers.problems import group, parameters, penalized, set_gradients

pytest.importorskip("triton")
cuda = importlib.import_module("ramda_cli.optimizers.fused.cuda")
pytestmark = [
    pytest.mark.skipif(not library.available(), reason="no C++ compiler"),
    # The interpreter computes with NumPy, which warns where a GPU would not; the values are unused.
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter"),
]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

Named = dict[str, nn.Parameter]


@pytest.fixture(autouse=True)
def triton_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take Triton's kernels for whatever is on the device of these tests."""

    def kernels_for(moving, active) -> Kernels:  # type: ignore[no-untyped-def]
        parts = dict(zip(active.members, active.parts, strict=True))
        members = [parts.get(name, each.current.numel()) for name, each in moving.items()]
        channels = active.sizes.numel()
        return cuda.CudaKernels(cut(members, channels, cuda.LIMITS), channels, DEVICE)

    monkeypatch.setattr("ramda_cli.optimizers.dual_averaging.kernels_for", kernels_for)


def _twins(dtype: torch.dtype = torch.float32) -> tuple[Named, Named]:
    """Return parameters for Triton, and equal ones, which must not look like them, for torch."""
    one, other = parameters(dtype), parameters(dtype)
    return {name: nn.Parameter(p.detach().to(DEVICE)) for name, p in one.items()}, other


def _run(
    one: Named, other: Named, penalties: list[Penalty], *, steps: int, momentum: float
) -> tuple[RAMDA, RAMDA]:
    triton = RAMDA(one.items(), penalties, lr=0.1, momentum=momentum, fused=True)
    plain = RAMDA(other.items(), penalties, lr=0.1, momentum=momentum, fused=False)
    for step in range(steps):
        set_gradients(other, step)
        for name, parameter in one.items():
            parameter.grad = other[name].grad.to(DEVICE)
        triton.step()
        plain.step()
        assert torch.equal(triton.solution_zero.cpu(), plain.solution_zero)
        for name, parameter in one.items():
            difference = (parameter.detach().cpu() - other[name].detach()).float().norm()
            assert difference <= 1e-5 * other[name].detach().float().norm() + 1e-6, name
    return triton, plain


@pytest.mark.parametrize("momentum", [0.01, 1.0])
@pytest.mark.parametrize("weights", [(0.0, 0.0), (0.05, 0.02), (0.5, 0.4), (1e3, 0.3)])
def test_steps_are_those_of_torch(weights: tuple[float, float], momentum: float):
    triton, _ = _run(*_twins(), penalized(*weights), steps=4, momentum=momentum)
    assert float(triton.certificate) <= 1e-5 * triton.param_groups[0]["step_size_sum"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_follows_its_master(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(choice._LOW, "cpu", {torch.bfloat16, torch.float16})
    one, other = _twins(dtype)
    triton, plain = _run(one, other, penalized(0.1, 0.1), steps=4, momentum=1.0)
    for name, parameter in one.items():
        master = triton.state[parameter]["master"].cpu()
        assert torch.equal(parameter.detach().cpu(), master.to(dtype))
        torch.testing.assert_close(master, plain.state[other[name]]["master"], rtol=2e-5, atol=1e-6)


def test_tiles_of_every_form():
    generator = torch.Generator().manual_seed(0)
    shapes = {"rows": (11, 200), "wide": (10, 150), "thin": (100, 5), "free": (1300,)}
    values = {k: torch.randn(v, generator=generator) for k, v in shapes.items()}
    penalties = [
        Penalty(group("rows", 11, ("rows", 0, [*range(11)])), GroupLasso(0.3)),
        Penalty(group("wide", 150, ("wide", 1, [*range(150)])), GroupLasso(0.3)),
        Penalty(group("thin", 5, ("thin", 1, [*range(5)])), GroupLasso(0.2)),
    ]
    one = {k: nn.Parameter(v.to(DEVICE)) for k, v in values.items()}
    other = {k: nn.Parameter(v.clone()) for k, v in values.items()}
    _run(one, other, penalties, steps=2, momentum=0.3)


def test_what_a_rule_may_ask_for():
    one, other = _twins()
    seen = []

    def rule(test: ZeroTest) -> Threshold:
        seen.append(test.change().cpu())
        return Threshold(test.crit < test.crit.median(), torch.zeros_like(test.crit))

    triton = RAMDA(one.items(), penalized(), lr=0.1, thresholds=rule, fused=True)
    plain = RAMDA(other.items(), penalized(), lr=0.1, thresholds=rule, fused=False)
    for step in range(2):
        set_gradients(other, step)
        for name, parameter in one.items():
            parameter.grad = other[name].grad.to(DEVICE)
        triton.step()
        plain.step()
    for mine, theirs in (seen[:2], seen[2:]):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_the_kernels_between_the_passes_say_what_secular_does():
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(300, 20, dtype=torch.float64, generator=generator)
    d = 10 ** (3 * torch.rand(300, 20, dtype=torch.float64, generator=generator) - 2)
    shrinkage = torch.rand(300, dtype=torch.float64, generator=generator) * w.norm(dim=1)
    shrinkage[:10] = 0.0
    zero = torch.arange(300) % 7 == 0
    square, curvature = w.square().sum(dim=1), (w.square() * d).sum(dim=1)
    problem = Secular(square, curvature, shrinkage, zero)
    near = problem.first_ratios(torch.zeros(300), torch.ones(3, 300, dtype=torch.float64))
    guess = torch.where(torch.isfinite(near), near, 0.0) * (
        0.3 + torch.rand(300, generator=generator)
    )
    guess[20:40] = 0.0
    ratio = guess.double().unsqueeze(1)
    p, t = w / (d + ratio), d / (d + ratio)
    sums = torch.stack([(p.square() * t**k).sum(dim=1) for k in range(3)])
    kernels = cuda.CudaKernels(cut([1], 300, cuda.LIMITS), 300, DEVICE)
    moved = Secular(*(x.to(DEVICE) for x in (square, curvature, shrinkage, zero)))
    mine = kernels.first_ratios(moved, guess.to(DEVICE), sums.to(DEVICE)).cpu()
    torch.testing.assert_close(mine, problem.first_ratios(guess, sums), rtol=1e-6, atol=0.0)
    mine = kernels.better_ratios(moved, guess.to(DEVICE), sums[:2].to(DEVICE)).cpu()
    torch.testing.assert_close(mine, problem.better_ratios(guess, sums[:2]), rtol=1e-6, atol=0.0)


def test_without_penalties():
    _run(*_twins(), [], steps=3, momentum=0.3)
