"""How channels are chosen and weights trained: RAMDA, or what it is compared with.

| method | chooses | trains with |
|---|---|---|
| `ramda` | by Taylor importance per cost, along a ramp, until the freeze | RAMDA |
| `taylor` | the same | AdamW, cosine decay |
| `magnitude` | by the L2 norm per weight, at once before the first step | AdamW, cosine decay |

AdamW is ProxGen without shrinkage, whose chosen channels are zero after every step.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.optimizers import RAMDA, Penalty, ProxGen
from ramda_cli.optimizers.proximal import ProximalOptimizer
from ramda_cli.structure.support import named_tensors
from ramda_cli.training.budget import Budget, Mask
from ramda_cli.training.rules import RAMP_END, WARM_UP_END, BudgetRule, ConstantRule, ZeroSetRule

WEIGHT_DECAY = 1e-2
"""Of AdamW: torch's own default."""

LABELS = {
    "ramda": "RAMDA",
    "taylor": "gradual Taylor pruning, AdamW",
    "magnitude": "one-shot L2 pruning, AdamW",
}


@dataclass(frozen=True, eq=False)
class Method:
    """What trains a model.

    Attributes:
        config: `method` and its settings.
        penalties: what is regularized.
        optimizer: of the model's parameters.
        rule: decides the zero set; None where the penalties' weight does.
        freeze_step: whose zero set stays.
    """

    config: TrainingConfig
    penalties: Sequence[Penalty]
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
        """Start RAMDA's averages anew; AdamW's go on."""
        if isinstance(self.optimizer, RAMDA):
            self.optimizer.restart()

    def without_penalties(self, model: nn.Module) -> "Method":
        """Return what trains a model from which the zero channels are gone."""
        optimizer = _optimizer(model, (), self.config, None)
        return Method(self.config, (), optimizer, None, self.freeze_step)

    def hold(self, zero: Mask, *, macs_share: float) -> None:
        """Keep these channels at zero from here on, and shrink none."""
        self.optimizer.thresholds = ConstantRule(zero, macs_share=macs_share)


def build_method(
    model: nn.Module,
    penalties: Sequence[Penalty],
    config: TrainingConfig,
    *,
    budget: Budget | None,
    steps: int,
    latest_freeze: int | None = None,
) -> Method:
    """Build the optimizer and the rule of a run.

    Args:
        model: on its device.
        penalties: what is regularized; with a budget in the order of its groups.
        config: `method` and its settings.
        budget: what to come down to; None only with RAMDA.
        steps: of the run.
        latest_freeze: step by which the zero set is final, whatever `config.freeze` says.
    """
    freeze_step = 1 if config.method == "magnitude" else max(1, round(config.freeze * steps))
    freeze_step = min(freeze_step, steps if latest_freeze is None else latest_freeze)
    rule: ZeroSetRule | None = None
    if budget is not None and config.method == "magnitude":
        zero = least_magnitude(model, penalties, budget)
        rule = ConstantRule(zero, macs_share=budget.macs_share(zero))
    elif budget is not None:
        # The zero set must be down to the budget when it is frozen.
        ramp_steps = min(freeze_step, max(1, round(RAMP_END * steps)))
        rule = BudgetRule(
            budget,
            warm_up_steps=round(WARM_UP_END * steps),
            ramp_steps=ramp_steps,
            freeze_step=freeze_step,
        )
    optimizer = _optimizer(model, penalties, config, rule)
    return Method(config, penalties, optimizer, rule, freeze_step)


def _optimizer(
    model: nn.Module,
    penalties: Sequence[Penalty],
    config: TrainingConfig,
    rule: ZeroSetRule | None,
) -> ProximalOptimizer:
    # Frozen parameters too: without a gradient their channels are left alone.
    named = model.named_parameters()
    if config.method == "ramda":
        return RAMDA(
            named, penalties,
            lr=config.step_size, momentum=config.momentum, eps=config.eps, thresholds=rule,
        )  # fmt: skip
    return ProxGen(
        named, penalties, lr=config.step_size, weight_decay=WEIGHT_DECAY, thresholds=rule
    )


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
