"""How channels are chosen and weights trained: RAMDA, or what it is compared with.

| method | chooses | trains with |
|---|---|---|
| `ramda` | by Taylor importance per cost, along a ramp, until the freeze | RAMDA |
| `taylor` | the same | AdamW, cosine decay |
| `magnitude` | by the L2 norm per weight, at once before the first step | AdamW, cosine decay |

AdamW is ProxGen without shrinkage, whose chosen channels are zero after every step. Ranks are
chosen the same ways: by what the loss would feel of them, gradually, or by singular values at once.

With a weight in place of a target the regularizer chooses, under RAMDA, RMDA, ProxSGD, ProxGen or
ProxSSI.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ramda_cli.config.schema import SolverName, TrainingConfig
from ramda_cli.errors import ConfigError
from ramda_cli.optimizers import (
    RAMDA,
    RMDA,
    LowRankPenalty,
    Penalty,
    ProxGen,
    ProxSGD,
    ProxSSI,
)
from ramda_cli.optimizers.dual_averaging import DualAveraging
from ramda_cli.optimizers.proximal import ProximalOptimizer
from ramda_cli.regularizers import NuclearNorm
from ramda_cli.structure.matrices import Matrix
from ramda_cli.structure.support import named_tensors
from ramda_cli.subproblem import ProximalGradient, Solver
from ramda_cli.training.budget import Budget, Mask
from ramda_cli.training.rank_rule import HeldRanks, RankBudgetRule
from ramda_cli.training.rules import RAMP_END, WARM_UP_END, BudgetRule, ConstantRule, ZeroSetRule

WEIGHT_DECAY = 1e-2
"""Of AdamW with a target: torch's own default."""

_TARGET_EVERY = 10
"""Steps between two choices of ranks: singular values cost more than a step of a small model."""

LABELS = {
    "ramda": "RAMDA",
    "taylor": "gradual Taylor pruning, AdamW",
    "magnitude": "one-shot L2 pruning, AdamW",
    "rmda": "RMDA",
    "proxsgd": "ProxSGD",
    "proxgen": "ProxGen",
    "proxssi": "ProxSSI",
}


@dataclass(frozen=True)
class StageSettings:
    """Of the optimizer, in a step of a run with a weight.

    Attributes:
        lr: step size.
        eps: added to RAMDA's preconditioner.
        momentum: weight of the prox output in the iterate; None where it stays as it is.
    """

    lr: float
    eps: float
    momentum: float | None


@dataclass(frozen=True, eq=False)
class Method:
    """What trains a model.

    Attributes:
        config: `method` and its settings.
        penalties: what is regularized.
        matrices: weights that may lose ranks.
        optimizer: of the model's parameters.
        rule: decides the zero set; None where the penalties' weight does.
        freeze_step: whose zero set stays.
    """

    config: TrainingConfig
    penalties: Sequence[Penalty]
    matrices: Sequence[Matrix]
    optimizer: ProximalOptimizer
    rule: ZeroSetRule | None
    freeze_step: int

    @property
    def label(self) -> str:
        """What the report calls it."""
        return LABELS[self.config.method]

    def lr(self, base: float, step: int, steps: int) -> float:
        """Return the step size of a run with a target, which decays to zero."""
        if isinstance(self.optimizer, RAMDA):
            return base * (1 - step / steps)
        return base * (1 + math.cos(math.pi * step / steps)) / 2

    def restart(self) -> None:
        """Start the averages of dual averaging anew; AdamW's and SGD's go on."""
        if isinstance(self.optimizer, DualAveraging):
            self.optimizer.restart()

    def set_stage(self, settings: StageSettings) -> None:
        """Set lr, and of RAMDA and RMDA what more a stage of a run with a weight changes."""
        (param_group,) = self.optimizer.param_groups
        param_group["lr"] = settings.lr
        if isinstance(self.optimizer, RAMDA):
            param_group["eps"] = settings.eps
        if isinstance(self.optimizer, DualAveraging) and settings.momentum is not None:
            param_group["momentum"] = settings.momentum

    def without_penalties(self, model: nn.Module) -> "Method":
        """Return what trains a model from which the zero channels, and the ranks, are gone."""
        optimizer = _optimizer(model, (), (), self.config, None)
        return Method(self.config, (), (), optimizer, None, self.freeze_step)

    def hold(self, zero: Mask, *, macs_share: float) -> None:
        """Keep these channels at zero, and ranks as they are, from here on, and shrink none."""
        self.optimizer.thresholds = ConstantRule(zero, macs_share=macs_share)
        if self.matrices:
            ranks = self.optimizer.ranks()
            self.optimizer.rank_rule = HeldRanks({name: rank for name, (rank, _) in ranks.items()})


def build_method(
    model: nn.Module,
    penalties: Sequence[Penalty],
    config: TrainingConfig,
    *,
    budget: Budget | None,
    steps: int,
    latest_freeze: int | None = None,
    matrices: Sequence[Matrix] = (),
) -> Method:
    """Build the optimizer and the rule of a run.

    Args:
        model: on its device.
        penalties: what is regularized; with a budget in the order of its groups.
        config: `method` and its settings.
        budget: what to come down to; None with a weight.
        steps: of the run.
        latest_freeze: step by which the zero set is final, whatever `config.freeze` says.
        matrices: weights that may lose ranks; with a budget those of its cost.

    Raises:
        ConfigError: the method does not choose channels and ranks together.
    """
    freeze_step = 1 if config.method == "magnitude" else max(1, round(config.freeze * steps))
    freeze_step = min(freeze_step, steps if latest_freeze is None else latest_freeze)
    # The zero set must be down to the budget when it is frozen.
    ramp_steps = min(freeze_step, max(1, round(RAMP_END * steps)))
    warm_up_steps = round(WARM_UP_END * steps)
    at_once = config.method == "magnitude"
    rule: ZeroSetRule | None = None
    if budget is not None and matrices:
        if at_once and penalties:
            raise ConfigError(
                "the method magnitude compares no channels with ranks",
                hint="--method ramda or taylor does",
            )
        rule = RankBudgetRule(
            budget,
            warm_up_steps=warm_up_steps, ramp_steps=ramp_steps, freeze_step=freeze_step,
            every=config.threshold_every or _TARGET_EVERY, by_norm=at_once,
        )  # fmt: skip
    elif budget is not None and at_once:
        zero = least_magnitude(model, penalties, budget)
        rule = ConstantRule(zero, macs_share=budget.macs_share(zero))
    elif budget is not None:
        rule = BudgetRule(
            budget, warm_up_steps=warm_up_steps, ramp_steps=ramp_steps, freeze_step=freeze_step
        )
    optimizer = _optimizer(model, penalties, matrices, config, rule)
    return Method(config, penalties, matrices, optimizer, rule, freeze_step)


def _optimizer(
    model: nn.Module,
    channels: Sequence[Penalty],
    matrices: Sequence[Matrix],
    config: TrainingConfig,
    rule: ZeroSetRule | None,
) -> ProximalOptimizer:
    # Frozen parameters too: without a gradient their channels are left alone.
    named = model.named_parameters()
    norm = NuclearNorm(config.nuclear_weight)
    of_ranks = [LowRankPenalty(each.parameter, norm) for each in matrices]
    penalties: list[Penalty | LowRankPenalty] = [*channels, *of_ranks]
    solver = _solver(config.solver)
    lr, momentum, decay = config.step_size, config.momentum, config.weight_decay
    optimizer: ProximalOptimizer
    match config.method:
        case "ramda":
            optimizer = RAMDA(
                named, penalties, lr=lr, momentum=momentum, eps=config.eps, thresholds=rule,
                solver=solver,
            )  # fmt: skip
        case "rmda":
            optimizer = RMDA(named, penalties, lr=lr, momentum=momentum)
        case "proxsgd":
            optimizer = ProxSGD(named, penalties, lr=lr, weight_decay=decay or 0.0)
        case "proxgen":
            optimizer = ProxGen(named, penalties, lr=lr, weight_decay=decay or 0.0, solver=solver)
        case "proxssi":
            optimizer = ProxSSI(named, penalties, lr=lr, weight_decay=decay or 0.0)
        case "taylor" | "magnitude":
            decay = WEIGHT_DECAY if decay is None else decay
            optimizer = ProxGen(named, penalties, lr=lr, weight_decay=decay, thresholds=rule)
    optimizer.threshold_every = config.threshold_every or 1
    if isinstance(rule, RankBudgetRule):
        optimizer.rank_rule = rule
    return optimizer


def _solver(name: SolverName) -> Solver | str:
    if name != "pg-unstopped":
        return name
    return ProximalGradient(relative_decrease=None)


@torch.no_grad()
def least_magnitude(model: nn.Module, penalties: Sequence[Penalty], budget: Budget) -> Mask:
    """Return the channels with the least root mean square of penalized weights, in the budget."""
    tensors = named_tensors(model)
    scores = []
    for penalty in penalties:
        total = torch.zeros(penalty.group.channels, dtype=torch.float64)
        entries = 0
        for part in penalty.group.penalized:
            rows = tensors[part.parameter].cpu().double().movedim(part.dim, 0)
            squares = rows[torch.from_numpy(part.indices)].square().flatten(1)
            total += squares.sum(dim=1)
            entries += squares.shape[1]
        scores.append((total / entries).sqrt().numpy())
    return budget.settle(np.concatenate(scores))
