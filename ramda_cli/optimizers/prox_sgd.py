"""Proximal stochastic gradient descent with momentum."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ramda_cli.optimizers.low_rank import LowRankPenalty
from ramda_cli.optimizers.moving import Moving
from ramda_cli.optimizers.penalty import Penalty
from ramda_cli.optimizers.proximal import ProximalOptimizer, Subproblem
from ramda_cli.optimizers.thresholds import ThresholdRule
from ramda_cli.subproblem import ExactSolver


class ProxSGD(ProximalOptimizer):
    """SGD with momentum and a proximal step; a group of its iterate is zero as soon as one is.

        m ← momentum m + g,   α ← momentum α + 1
        x ← argmin_p ⟨m, p-x⟩ + ‖p-x‖² / (2 lr) + α ψ(p)

    Without penalties it is `torch.optim.SGD` with the same momentum. α is the sum of the weights
    that gradients have in m, so that what is minimised is the loss plus ψ; without it ψ would count
    a tenth at a momentum of 0.9. The averaging of Yang et al. is left out, with a unit step on the
    proximal output, as in the experiments of the RAMDA paper.

    Reference: Yang et al., ICLR 2020, "ProxSGD: training structured neural networks under
    regularization and constraints".

    Args:
        named_parameters: as from `model.named_parameters()`, or param_groups of such.
        penalties: what to regularize; entries of no penalty have ψ = 0.
        lr: step size, > 0.
        momentum: of the gradients, in [0, 1).
        weight_decay: multiple of x added to the gradient, >= 0.
        thresholds: decides which channels are zero; the weights of `penalties` when not given.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]],
        penalties: Sequence[Penalty | LowRankPenalty] = (),
        *,
        lr: float = 1e-1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        thresholds: ThresholdRule | None = None,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(
            named_parameters, penalties, defaults, thresholds=thresholds, solver=ExactSolver()
        )

    def check_settings(self, settings: dict[str, Any]) -> None:
        """Raise ValueError where `lr`, `momentum` or `weight_decay` is out of its range."""
        if not settings["lr"] > 0.0:
            raise ValueError(f"lr must be > 0, got {settings['lr']}")
        if not 0.0 <= settings["momentum"] < 1.0:
            raise ValueError(f"momentum must be in [0, 1), got {settings['momentum']}")
        if not settings["weight_decay"] >= 0.0:
            raise ValueError(f"weight_decay must be >= 0, got {settings['weight_decay']}")

    def new_state(self, start: Tensor) -> dict[str, Tensor]:
        """Return m = 0."""
        return {"momentum_buffer": torch.zeros_like(start)}

    def accumulate(self, members: Sequence[Moving], settings: dict[str, Any]) -> None:
        """Take the gradients into m."""
        buffers = [each.state["momentum_buffer"] for each in members]
        gradients = [
            each.gradient.to(buffer.dtype) for each, buffer in zip(members, buffers, strict=True)
        ]
        torch._foreach_mul_(buffers, settings["momentum"])
        torch._foreach_add_(buffers, gradients)
        if settings["weight_decay"]:
            current = [each.current for each in members]
            torch._foreach_add_(buffers, current, alpha=settings["weight_decay"])

    def scale(self, settings: dict[str, Any]) -> float:
        """Return α, or 0 where the step size is 0."""
        momentum = settings["momentum"]
        weights = (1.0 - momentum ** settings["step"]) / (1.0 - momentum)
        return weights if settings["lr"] > 0.0 else 0.0

    def subproblem(self, members: Sequence[Moving]) -> Subproblem:
        """Return x, m and D = 1 / lr."""
        linear = [each.state["momentum_buffer"] for each in members]
        anchor = [
            torch.empty_like(like).copy_(each.current)
            for like, each in zip(linear, members, strict=True)
        ]
        d = [
            torch.full_like(like, 1.0 / each.param_group["lr"])
            for like, each in zip(linear, members, strict=True)
        ]
        return Subproblem(anchor, linear, d)
