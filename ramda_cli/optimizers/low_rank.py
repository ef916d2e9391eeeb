"""Matrices under a nuclear norm: the subproblem of one step, for all of one shape together.

Singular values are what such a step costs. Where they are taken in every k-th step alone, the
subgradient of the norm that was found last stays in between, the solution takes a step of 1 / max D
down the slope, and it is projected onto the columns that it had, so that the rank stays too.
"""

from collections.abc import Callable, Mapping, Sequence
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


Problem = Callable[[Sequence[Moving]], tuple[list[Tensor], list[Tensor]]]
"""Returns D x₀ - v and D of some parameters."""


def solve_matrices(
    members: Sequence[Moving],
    problem: Problem,
    shrinkage: Sequence[float],
    solver: LowRankSolver,
    *,
    every: int = 1,
) -> tuple[list[Tensor], Float[Tensor, ""]]:
    """Solve the subproblem of each member; the next one starts where this one ended.

    On a CPU one after the other, which keeps a matrix in the caches; elsewhere all of a shape
    together.

    Args:
        members: penalized parameters.
        problem: of some of them.
        shrinkage: L of each.
        solver: of the matrices.
        every: steps of which the first thresholds singular values.

    Returns:
        The solutions, and the norm of a subgradient of all of them together; of a step between
        two thresholdings 0, as it is not solved.
    """
    solutions: list[Tensor | None] = [None] * len(members)
    certificates = []
    for numbers in _alike([member.current for member in members]):
        some = [members[number] for number in numbers]
        limits = [shrinkage[number] for number in numbers]
        if all(_holds(member.state, every) for member in some):
            found = [_between(*each) for each in zip(some, *problem(some), limits, strict=True)]
        else:
            found, certificate = _solve(some, *problem(some), limits, solver, hold=every > 1)
            certificates.append(certificate)
        for number, solution in zip(numbers, found, strict=True):
            solutions[number] = solution
    first = members[0].current
    total = [each.to(first.device) for each in certificates] or [first.new_zeros(())]
    return [s for s in solutions if s is not None], torch.linalg.vector_norm(torch.stack(total))


def _solve(
    members: Sequence[Moving],
    w: Sequence[Tensor],
    d: Sequence[Tensor],
    shrinkage: Sequence[float],
    solver: LowRankSolver,
    *,
    hold: bool,
) -> tuple[list[Tensor], Float[Tensor, ""]]:
    """Solve for members of one shape, and remember what the next step starts from."""
    shape, rows = w[0].shape, w[0].shape[0]
    states = [member.state for member in members]

    def stacked(tensors: Sequence[Tensor]) -> Tensor:
        matrices = [each.reshape(rows, -1) for each in tensors]
        return matrices[0][None] if len(matrices) == 1 else torch.stack(matrices)

    starts = [m.state.get("low_rank_solution", m.current) for m in members]
    known = [s["low_rank_subgradient"] for s in states if "low_rank_subgradient" in s]
    found = solver.solve(
        stacked(w),
        stacked(d),
        w[0].new_tensor(shrinkage),
        start=stacked(starts),
        subgradient=stacked(known) if len(known) == len(states) else None,
    )
    # A run that diverged has no small rank.
    finite = torch.isfinite(found.certificate)
    ranks = torch.where(finite, found.rank, full_rank(w[0]))
    for place, state in enumerate(states):
        state["low_rank_solution"] = found.matrix[place].reshape(shape).contiguous()
        state["low_rank_rank"] = ranks[place]
        if found.subgradient is not None:
            state["low_rank_subgradient"] = found.subgradient[place].reshape(shape).contiguous()
        elif hold:
            rest = w[place] - d[place] * state["low_rank_solution"]
            by = shrinkage[place]
            state["low_rank_subgradient"] = rest / by if by > 0 else torch.zeros_like(rest)
        if hold:
            _hold(state)
    solutions = [state["low_rank_solution"] for state in states]
    return solutions, torch.linalg.vector_norm(found.certificate)


def _hold(state: dict[str, Tensor]) -> None:
    """Remember what the columns or rows of the solution span, where that is not everything."""
    solution, rank = state["low_rank_solution"], int(state["low_rank_rank"])
    for key in ("low_rank_left", "low_rank_right"):
        state.pop(key, None)
    if rank < full_rank(solution):
        basis = leading_basis(solution.flatten(1), rank)
        state["low_rank_left"] = state["low_rank_right"] = basis.contiguous()
    state["low_rank_age"] = torch.zeros((), dtype=torch.int64)


def _holds(state: Mapping[str, Tensor], every: int) -> bool:
    """Tell whether this step is between two thresholdings."""
    return every > 1 and "low_rank_age" in state and int(state["low_rank_age"]) + 1 < every


def _between(member: Moving, w: Tensor, d: Tensor, shrinkage: float) -> Tensor:
    """Return the solution of a step between two thresholdings."""
    state = member.state
    state["low_rank_age"] = state["low_rank_age"] + 1
    last = state["low_rank_solution"]
    # To solve for it would divide what is left of W by D, and that may be tiny.
    slope = (d * last).sub_(w).add_(state["low_rank_subgradient"], alpha=shrinkage)
    point = last - slope.div_(d.max())
    spans_less = "low_rank_left" in state
    state["low_rank_solution"] = project(state, point) if spans_less else point
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
    """Return the numbers of the tensors that are solved together."""
    found: dict[object, list[int]] = {}
    for number, tensor in enumerate(tensors):
        alone = number if tensor.device.type == "cpu" else None
        found.setdefault((tensor.shape, tensor.dtype, tensor.device, alone), []).append(number)
    return [*found.values()]
