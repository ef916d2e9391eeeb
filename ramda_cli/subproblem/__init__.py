"""The proximal subproblem of one optimizer step, solved exactly."""

from ramda_cli.subproblem.cells import Cells
from ramda_cli.subproblem.groups import CellIndex, Groups, Member, Moments, index_cells
from ramda_cli.subproblem.low_rank import (
    AlternatingDirections,
    LowRankSolution,
    LowRankSolver,
    ProximalGradientSteps,
)
from ramda_cli.subproblem.secular import Root, newton_from_zero, newton_raphson, solve_secular
from ramda_cli.subproblem.solvers import (
    ExactSolver,
    NewtonRaphson,
    Problem,
    ProximalGradient,
    Solution,
    Solver,
    solver_named,
)

__all__ = [
    "AlternatingDirections",
    "CellIndex",
    "Cells",
    "ExactSolver",
    "Groups",
    "LowRankSolution",
    "LowRankSolver",
    "Member",
    "Moments",
    "NewtonRaphson",
    "Problem",
    "ProximalGradient",
    "ProximalGradientSteps",
    "Root",
    "Solution",
    "Solver",
    "index_cells",
    "newton_from_zero",
    "newton_raphson",
    "solve_secular",
    "solver_named",
]
