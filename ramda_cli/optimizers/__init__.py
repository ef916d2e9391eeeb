"""Proximal optimizers with the `torch.optim.Optimizer` interface."""

from ramda_cli.optimizers.penalty import Penalty, penalties
from ramda_cli.optimizers.ramda import RAMDA
from ramda_cli.optimizers.thresholds import FixedWeights, Threshold, ThresholdRule, ZeroTest

__all__ = [
    "RAMDA",
    "FixedWeights",
    "Penalty",
    "Threshold",
    "ThresholdRule",
    "ZeroTest",
    "penalties",
]
