"""Regularizers ψ and their proximal operators, on plain matrices."""

from ramda_cli.regularizers.base import Regularizer
from ramda_cli.regularizers.group_lasso import GroupLasso

__all__ = ["GroupLasso", "Regularizer"]
