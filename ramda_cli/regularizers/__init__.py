"""Regularizers ψ and their proximal operators, on plain matrices."""

from ramda_cli.regularizers.base import GroupRegularizer, Regularizer
from ramda_cli.regularizers.firm import firm_shrinkage
from ramda_cli.regularizers.group_lasso import GroupLasso
from ramda_cli.regularizers.group_mcp import GroupMCP
from ramda_cli.regularizers.nuclear_norm import NuclearNorm

__all__ = [
    "GroupLasso",
    "GroupMCP",
    "GroupRegularizer",
    "NuclearNorm",
    "Regularizer",
    "firm_shrinkage",
]
