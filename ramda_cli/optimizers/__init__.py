"""Proximal optimizers with the `torch.optim.Optimizer` interface."""

from ramda_cli.optimizers.carry import carry_state_
from ramda_cli.optimizers.dual_averaging import RAMDA, RMDA
from ramda_cli.optimizers.low_rank import LowRankPenalty
from ramda_cli.optimizers.penalty import Penalty, penalties
from ramda_cli.optimizers.prox_gen import ProxGen, ProxSSI
from ramda_cli.optimizers.prox_sgd import ProxSGD
from ramda_cli.optimizers.proximal import ProximalOptimizer
from ramda_cli.optimizers.thresholds import FixedWeights, Threshold, ThresholdRule, ZeroTest

__all__ = [
    "RAMDA",
    "RMDA",
    "FixedWeights",
    "LowRankPenalty",
    "Penalty",
    "ProxGen",
    "ProxSGD",
    "ProxSSI",
    "ProximalOptimizer",
    "Threshold",
    "ThresholdRule",
    "ZeroTest",
    "carry_state_",
    "penalties",
]
