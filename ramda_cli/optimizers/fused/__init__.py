"""A RAMDA step in two passes over memory, whatever the number of tensors and groups."""

from ramda_cli.optimizers.fused.choice import kernels_for, operand, why_not
from ramda_cli.optimizers.fused.operands import Kernels, Settings
from ramda_cli.optimizers.fused.step import take_step

__all__ = ["Kernels", "Settings", "kernels_for", "operand", "take_step", "why_not"]
