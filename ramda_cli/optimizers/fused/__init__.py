"""A RAMDA step in two passes over memory, whatever the number of tensors and groups."""

from ramda_cli.optimizers.fused.choice import kernels_for, laid_out_gradient, operand, why_not
from ramda_cli.optimizers.fused.operands import Kernels, Operand, Settings
from ramda_cli.optimizers.fused.step import take_step

__all__ = [
    "Kernels",
    "Operand",
    "Settings",
    "kernels_for",
    "laid_out_gradient",
    "operand",
    "take_step",
    "why_not",
]
