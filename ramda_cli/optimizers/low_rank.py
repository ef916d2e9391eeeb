"""Matrices under a nuclear norm: the subproblem of one step, for all of one shape together.

Singular values are what such a step costs. Where they are taken in every k-th step alone, the
subgradient of the norm that was found last stays in between, and the solution is projected onto the
columns that it had, so that the rank stays too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ramda_cli.optimizers.moving import Moving
from ramda_cli.regularizers import NuclearNorm
from ramda_cli.regularizers.singular_values import leading_singular_values, symmetric_eigen
from ramda_cli.subproblem import LowRankSolver

OF_MATRICES = {"low_rank_rank", "low_rank_left", "low_rank_right", "low_rank_age"}
"""What the state of a matrix holds that has not its shape."""

_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class LowRankPenalty:
    """A nuclear norm on one parameter, as the matrix of its first dimension by all others.

    Attributes:
        parameter: its qualified name.
        regularizer: of the matrix.
    """

    parameter: str
    regularizer: NuclearNorm


def low_rank_weights(
    penalized: Sequence[LowRankPenalty], named: Mapping[str, Tensor]
) -> dict[str, float]:
    """Return λ of each penalized parameter.

    Raises:
        ValueError: a parameter is not there, is no matrix, or is penalized twice.
    """
    weights: dict[str, float] = {}
    for penalty in penalized:
        name = penalty.parameter
        if name not in named:
            raise ValueError(f"a nuclear norm penalizes {name}, which is not among the parameters")
        if named[name].ndim < 2:
            shape = tuple(named[name].shape)
            raise ValueError(f"a nuclear norm penalizes {name}, which is no matrix: {shape}")
        if name in weights:
            raise ValueError(f"two nuclear norms penalize {name}")
        weights[name] = penalty.regularizer.weight
    return weights


def full_rank(parameter: Tensor) -> int:
    """Return the largest rank that the matrix of a parameter can have."""
    rows = parameter.shape[0]
    return min(rows, parameter.numel() // rows)


def solve_matrices(
    members: Sequence[Moving],
    w: Sequence[Tensor],
    d: Sequence[Tensor],
    shrinkage: Sequence[float],
    solver: LowRankSolver,
    *,
    every: int = 1,
) -> tuple[list[Tensor], Float[Tensor, ""]]:
    """Solve the subproblem of each member; the next one starts where this one ended.

    Args:
        members: penalized parameters.
        w: D x₀ - v of each.
        d: D of each.
        shrinkage: L of each.
        solver: of the matrices.
        every: steps of which the first thresholds singular values.

    Returns:
        The solutions, and the norm of a subgradient of all of them together; of a step between
        two thresholdings 0, as it is not solved.
    """
    held = [_between(*each, every=every) for each in zip(members, w, d, shrinkage, strict=True)]
    between = [solution for solution in held if solution is not None]
    if len(between) == len(held):
        return between, torch.zeros((), device=w[0].device)
    solutions: list[Tensor] = [*w]
    certificates = []
    for numbers in _alike(w):
        first = w[numbers[0]]
        rows = first.shape[0]
        states = [members[number].state for number in numbers]
        starts = [
            state.get("low_rank_solution", members[number].current)
            for number, state in zip(numbers, states, strict=True)
        ]
        known = [s["low_rank_subgradient"] for s in states if "low_rank_subgradient" in s]
        found = solver.solve(
            torch.stack([w[number].reshape(rows, -1) for number in numbers]),
            torch.stack([d[number].reshape(rows, -1) for number in numbers]),
            first.new_tensor([shrinkage[number] for number in numbers]),
            start=torch.stack([start.reshape(rows, -1) for start in starts]),
            subgradient=torch.stack([each.reshape(rows, -1) for each in known])
            if len(known) == len(states)
            else None,
        )
        certificates.append(torch.linalg.vector_norm(found.certificate).to(w[0].device))
        # A run that diverged has no small rank.
        finite = torch.isfinite(found.certificate)
        ranks = torch.where(finite, found.rank, full_rank(first))
        for place, number in enumerate(numbers):
            solutions[number] = found.matrix[place].reshape(w[number].shape)
            states[place]["low_rank_solution"] = solutions[number]
            states[place]["low_rank_rank"] = ranks[place]
            if found.subgradient is not None:
                states[place]["low_rank_subgradient"] = found.subgradient[place].reshape(
                    w[number].shape
                )
            elif every > 1:
                rest = w[number] - d[number] * solutions[number]
                states[place]["low_rank_subgradient"] = rest / max(shrinkage[number], _TINY)
            if every > 1:
                _hold(states[place])
    return solutions, torch.linalg.vector_norm(torch.stack(certificates))


def _hold(state: dict[str, Tensor]) -> None:
    """Remember what the columns or rows of the solution span."""
    solution, rank = state["low_rank_solution"], int(state["low_rank_rank"])
    state["low_rank_left"] = state["low_rank_right"] = leading_basis(solution.flatten(1), rank)
    state["low_rank_age"] = torch.zeros((), dtype=torch.int64)


def _between(
    member: Moving, w: Tensor, d: Tensor, shrinkage: float, *, every: int
) -> Tensor | None:
    """Return the solution of a step between two thresholdings; None where it is time for one."""
    state = member.state
    if every == 1 or "low_rank_age" not in state or state["low_rank_age"] + 1 >= every:
        return None
    state["low_rank_age"] = state["low_rank_age"] + 1
    point = (w - shrinkage * state["low_rank_subgradient"]) / d
    state["low_rank_solution"] = project(state, point)
    return state["low_rank_solution"]


def project(state: Mapping[str, Tensor], tensor: Tensor) -> Tensor:
    """Return a weight projected onto what the state remembers to be spanned, of that rank."""
    left, right = state["low_rank_left"], state["low_rank_right"]
    matrix = tensor.flatten(1)
    if matrix.shape[0] > matrix.shape[1]:
        return ((matrix @ right) @ left.mT).reshape(tensor.shape)
    return (left @ (right.mT @ matrix)).reshape(tensor.shape)


def leading_basis(matrix: Float[Tensor, "rows cols"], rank: int) -> Float[Tensor, "n rank"]:
    """Return what spans the columns of a wide matrix of a rank, or the rows of a tall one."""
    short = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    finite = torch.nan_to_num(short, posinf=0.0, neginf=0.0)
    return symmetric_eigen(finite @ finite.mT)[1][:, finite.shape[0] - rank :]


@torch.no_grad()
def truncate_(parameter: Tensor, rank: int) -> None:
    """Take the nearest matrix of a rank, in place."""
    left, values, right = leading_singular_values(parameter.flatten(1), rank)
    parameter.copy_(((left * values) @ right).reshape(parameter.shape))


def _alike(tensors: Sequence[Tensor]) -> list[list[int]]:
    """Return the numbers of the tensors of each matrix shape, dtype and device."""
    found: dict[object, list[int]] = {}
    for number, tensor in enumerate(tensors):
        rows = tensor.shape[0]
        key = (rows, tensor.numel() // rows, tensor.dtype, tensor.device)
        found.setdefault(key, []).append(number)
    return [*found.values()]
