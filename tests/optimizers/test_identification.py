"""Manifold identification: on a convex problem RAMDA finds the zero set of the solution, for good.

Multinomial logistic regression on the digits with a group per pixel. The solution comes from an
accelerated proximal gradient method in float64, which shares no code with the package. Stochastic
gradients of batches then either end in its zero set (RAMDA: dual averaging makes their noise
vanish) or never stop leaving it (ProxSGD), which is the point of the paper.
"""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from ramda_cli.optimizers import RAMDA, Penalty, ProximalOptimizer, ProxSGD
from ramda_cli.regularizers import GroupLasso, GroupMCP, GroupRegularizer
from tests.optimizers.problems import group

WEIGHT = 7e-3
STEPS = 3000


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    pixels, labels = load_digits(return_X_y=True)
    inputs = torch.tensor(pixels / 16.0)
    return inputs - inputs.mean(dim=0), torch.tensor(labels)


@pytest.fixture(scope="module")
def solution(digits: tuple[Tensor, Tensor]) -> Tensor:
    """Minimise by FISTA with restarts, until nothing moves in float64."""
    inputs, labels = digits
    rows = torch.cat([inputs, torch.ones(len(inputs), 1).double()], dim=1)
    step = 2.0 / float(torch.linalg.eigvalsh(rows.T @ rows / len(rows)).max())
    point = last = torch.zeros(10, 65).double()
    inertia = 1.0
    for _ in range(5000):
        error = torch.softmax(rows @ point.T, dim=1) - F.one_hot(labels)
        moved = point - step * (error.T @ rows / len(rows))
        norms = moved[:, :64].norm(dim=0).clamp_min(1e-300)
        moved[:, :64] *= (1 - step * WEIGHT * 10**0.5 / norms).clamp_min(0)
        restart = float(((point - moved) * (moved - last)).sum()) > 0
        next_inertia = 1.0 if restart else (1 + (1 + 4 * inertia**2) ** 0.5) / 2
        momentum = 0.0 if restart else (inertia - 1) / next_inertia
        point, change = moved + momentum * (moved - last), (moved - last).abs().max()
        last, inertia = moved, next_inertia
        if change < 1e-13:
            return last
    raise AssertionError("the reference did not converge")


def _wrong_channels(
    optimizer_class: type[ProximalOptimizer],
    digits: tuple[Tensor, Tensor],
    zero: Tensor,
    settings: dict[str, float],
    regularizer: GroupRegularizer,
) -> np.ndarray:
    """Train, and count in how many channels each step's zero set is not the solution's."""
    inputs, labels = digits[0].float(), digits[1]
    generator = torch.Generator().manual_seed(0)
    weight, bias = nn.Parameter(torch.zeros(10, 64)), nn.Parameter(torch.zeros(10))
    penalty = Penalty(group("pixels", 64, ("weight", 1, [*range(64)])), regularizer)
    optimizer = optimizer_class([("weight", weight), ("bias", bias)], [penalty], **settings)  # type: ignore[call-arg]
    wrong = []
    for _ in range(STEPS):
        batch = torch.randint(len(inputs), (256,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(inputs[batch] @ weight.T + bias, labels[batch]).backward()
        optimizer.step()
        wrong.append(int((optimizer.solution_zero != zero).sum()))
    return np.array(wrong)


@pytest.mark.parametrize("regularizer", [GroupLasso(WEIGHT), GroupMCP(WEIGHT)])
def test_ramda_identifies_the_zero_set(
    regularizer: GroupRegularizer, digits: tuple[Tensor, Tensor], solution: Tensor
):
    # Group MCP's too: α grows faster than D, and with it the knee (docs/optimizer.md).
    zero = (solution[:, :64] == 0).all(dim=0)
    assert int(zero.sum()) == 39
    ramda = _wrong_channels(RAMDA, digits, zero, {"lr": 1e-2, "momentum": 0.1}, regularizer)
    assert (ramda[:100] > 0).all()
    assert (ramda[STEPS // 2 + 500 :] == 0).all()


def test_prox_sgd_keeps_leaving_it(digits: tuple[Tensor, Tensor], solution: Tensor):
    zero = (solution[:, :64] == 0).all(dim=0)
    prox_sgd = _wrong_channels(ProxSGD, digits, zero, {"lr": 1e-1}, GroupLasso(WEIGHT))
    late = prox_sgd[-500:] > 0
    assert late.mean() > 0.3
