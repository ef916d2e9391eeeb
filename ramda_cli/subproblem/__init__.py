"""The proximal subproblem of one optimizer step, solved exactly."""

from ramda_cli.subproblem.cells import Cells
from ramda_cli.subproblem.groups import CellIndex, Groups, Member, Moments, index_cells
from ramda_cli.subproblem.secular import Root, newton_from_zero, solve_secular

__all__ = [
    "CellIndex",
    "Cells",
    "Groups",
    "Member",
    "Moments",
    "Root",
    "index_cells",
    "newton_from_zero",
    "solve_secular",
]
