"""What solves the subproblem of one step: exactly, by Newton-Raphson, or by proximal gradient."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ramda_cli.subproblem.groups import Groups, Moments
from ramda_cli.subproblem.proximal_gradient import StoppingRule, descend_
from ramda_cli.subproblem.secular import (
    Root,
    newton_from_zero,
    newton_raphson,
    solve_secular,
)


@dataclass(frozen=True, eq=False)
class Problem:
    """The channels of one step, divided by the scale of their moments.

    Attributes:
        groups: the values, normalized.
        moments: what `normalize_` returned.
        shrinkage: L, in the units of the moments; below their norm where not zero.
        zero: channels whose solution is zero.
        last_norms: ‖p‖ of the last solution, in its own units.
        iterates: returns x of each member, with the strides of its w; solvers that start anew are
            spared the copies.
    """

    groups: Groups
    moments: Moments
    shrinkage: Float[Tensor, " channels"]
    zero: Bool[Tensor, " channels"]
    last_norms: Float[Tensor, " channels"]
    iterates: Callable[[], Sequence[Tensor]]


@dataclass(frozen=True, eq=False)
class Solution:
    """What a solver found out.

    Attributes:
        norms: ‖p‖, 0 iff the channel is zero.
        ratios: L/‖p‖, infinite where the channel is zero.
        certificate: norm of the smallest subgradient of the subproblem at the solution.
    """

    norms: Float[Tensor, " channels"]
    ratios: Float[Tensor, " channels"]
    certificate: Float[Tensor, ""]


class Solver(Protocol):
    """Solves the subproblem of the channels; the other entries have a closed form."""

    def solve_(self, problem: Problem) -> Solution:
        """Overwrite w of each member by its part of the solution."""
        ...


class ExactSolver:
    """Newton's method on the secular equation, to the last bits; see `secular`."""

    def solve_(self, problem: Problem) -> Solution:
        """Overwrite w of each member by its part of the solution."""
        moments = problem.moments
        root = solve_secular(
            problem.groups.secular_sums,
            lower=newton_from_zero(moments.norm, moments.curvature, problem.shrinkage),
            guess=problem.last_norms / moments.scale,
            shrinkage=problem.shrinkage,
            zero=problem.zero,
        )
        return _finish(problem, root)


class NewtonRaphson:
    """Plain Newton-Raphson on φ(r) = 1 (Deleu & Bengio, arXiv:2102.03869)."""

    def solve_(self, problem: Problem) -> Solution:
        """Overwrite w of each member by its part of the solution."""
        moments = problem.moments
        root = newton_raphson(
            problem.groups.secular_sums,
            lower=newton_from_zero(moments.norm, moments.curvature, problem.shrinkage),
            shrinkage=problem.shrinkage,
            zero=problem.zero,
        )
        return _finish(problem, root)


@dataclass(frozen=True)
class ProximalGradient:
    """Proximal gradient from the current iterate, the paper's solver (its Algorithm 2).

    It stops at the first of: the smallest subgradient's norm is at most `tolerance` and the
    objective at most that of the iterate; one iteration lowered the objective by at most
    `relative_decrease` of its size; `max_iterations`. The step is the inverse of the largest
    diagonal entry of each channel, whose groups are problems of their own.

    Attributes:
        tolerance: ε_t of the inexactness rule, >= 0; not asked when None.
        relative_decrease: >= 0; not asked when None.
        max_iterations: at least 1.
    """

    tolerance: float | None = None
    relative_decrease: float | None = 1e-8
    max_iterations: int = 100

    def __post_init__(self) -> None:
        """Raise ValueError where a setting is out of its range."""
        for name in ("tolerance", "relative_decrease"):
            value = getattr(self, name)
            if value is not None and not value >= 0.0:
                raise ValueError(f"{name} must be >= 0, got {value}")
        if self.max_iterations < 1:
            raise ValueError(f"max_iterations must be at least 1, got {self.max_iterations}")

    def solve_(self, problem: Problem) -> Solution:
        """Overwrite w of each member by its part of the solution."""
        rule = StoppingRule(self.tolerance, self.relative_decrease, self.max_iterations)
        descent = descend_(
            problem.groups,
            problem.iterates(),
            scale=problem.moments.scale,
            shrinkage=problem.shrinkage,
            zero=problem.zero,
            rule=rule,
        )
        norms = descent.norms * problem.moments.scale
        shrinkage = problem.shrinkage * problem.moments.scale
        ratios = torch.where(norms == 0, torch.inf, shrinkage / norms)
        return Solution(norms, ratios, descent.certificate)


def solver_named(name: str) -> Solver:
    """Return the solver of that name, `exact` or `pg`.

    Raises:
        ValueError: there is none.
    """
    if name == "exact":
        return ExactSolver()
    if name == "pg":
        return ProximalGradient()
    raise ValueError(f"solver must be 'exact' or 'pg', got {name!r}")


def _finish(problem: Problem, root: Root) -> Solution:
    moments, zero = problem.moments, problem.zero
    # 0/r, and not 0/0, where nothing shrinks: `r` is positive for every channel.
    ratios = torch.where(zero, torch.inf, problem.shrinkage / root.r)
    problem.groups.solve_(ratios, moments.scale)
    tiny = torch.finfo(root.r.dtype).tiny
    norms = torch.where(zero, 0.0, (root.r * moments.scale).clamp_min(tiny))
    return Solution(norms, ratios, torch.linalg.vector_norm(root.residual * moments.scale))
