"""Proximal AdamW: ProxGen, and ProxSSI, which solves the same subproblem its own way."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ramda_cli.optimizers.low_rank import LowRankPenalty
from ramda_cli.optimizers.moving import Moving
from ramda_cli.optimizers.penalty import Penalty
from ramda_cli.optimizers.proximal import ProximalOptimizer, Subproblem
from ramda_cli.optimizers.thresholds import ThresholdRule
from ramda_cli.subproblem import LowRankSolver, NewtonRaphson, Solver


class ProxGen(ProximalOptimizer):
    """AdamW with a proximal step in AdamW's own metric.

        m ← β₁ m + (1-β₁) g,   v ← β₂ v + (1-β₂) g²
        D = (√(v / (1-β₂ᵗ)) + eps) / lr,   y = (1 - lr weight_decay) x
        x ← argmin_p ⟨m / (1-β₁ᵗ), p-y⟩ + ½‖p-y‖²_D + ψ(p)

    Without penalties it is `torch.optim.AdamW`.

    Reference: Yun, Lozano & Yang, NeurIPS 2021, "Adaptive proximal gradient methods for structured
    neural networks" (arXiv:2007.07869); the RAMDA paper calls this case ProxAdamW.

    Args:
        named_parameters: as from `model.named_parameters()`, or param_groups of such.
        penalties: what to regularize; entries of no penalty have ψ = 0.
        lr: step size, > 0.
        betas: decay rates of the two averages, in [0, 1).
        eps: added to the root, > 0.
        weight_decay: decoupled, >= 0.
        thresholds: decides which channels are zero; the weights of `penalties` when not given.
        solver: `exact`; or `pg`, proximal gradient; or one with settings of its own.
        low_rank_solver: of matrices under a nuclear norm, as in RAMDA.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]],
        penalties: Sequence[Penalty | LowRankPenalty] = (),
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        thresholds: ThresholdRule | None = None,
        solver: Solver | str = "exact",
        low_rank_solver: LowRankSolver | None = None,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(
            named_parameters,
            penalties,
            defaults,
            thresholds=thresholds,
            solver=solver,
            low_rank_solver=low_rank_solver,
        )

    def check_settings(self, settings: dict[str, Any]) -> None:
        """Raise ValueError where a setting is out of its range."""
        for name in ("lr", "eps"):
            if not settings[name] > 0.0:
                raise ValueError(f"{name} must be > 0, got {settings[name]}")
        if not all(0.0 <= beta < 1.0 for beta in settings["betas"]):
            raise ValueError(f"betas must be in [0, 1), got {settings['betas']}")
        if not settings["weight_decay"] >= 0.0:
            raise ValueError(f"weight_decay must be >= 0, got {settings['weight_decay']}")

    def new_state(self, start: Tensor) -> dict[str, Tensor]:
        """Return the two averages."""
        return {"exp_avg": torch.zeros_like(start), "exp_avg_sq": torch.zeros_like(start)}

    def accumulate(self, members: Sequence[Moving], settings: dict[str, Any]) -> None:
        """Take the gradients into both averages."""
        first, second = settings["betas"]
        means = [each.state["exp_avg"] for each in members]
        squares = [each.state["exp_avg_sq"] for each in members]
        gradients = [
            each.gradient.to(mean.dtype) for each, mean in zip(members, means, strict=True)
        ]
        torch._foreach_lerp_(means, gradients, 1.0 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1.0 - second)

    def scale(self, settings: dict[str, Any]) -> float:
        """Return 1, or 0 where the step size is 0."""
        return 1.0 if settings["lr"] > 0.0 else 0.0

    def subproblem(self, members: Sequence[Moving]) -> Subproblem:
        """Return the decayed x, the bias-corrected mean, and D."""
        anchor, linear = [], []
        for each in members:
            mean, settings = each.state["exp_avg"], each.param_group
            decayed = each.current * (1.0 - settings["lr"] * settings["weight_decay"])
            anchor.append(torch.empty_like(mean).copy_(decayed))
            linear.append(mean / (1.0 - settings["betas"][0] ** settings["step"]))
        d = [*torch._foreach_sqrt([each.state["exp_avg_sq"] for each in members])]
        torch._foreach_div_(d, [_root_correction(each.param_group) for each in members])
        torch._foreach_add_(d, [each.param_group["eps"] for each in members])
        torch._foreach_div_(d, [each.param_group["lr"] for each in members])
        return Subproblem(anchor, linear, d)


class ProxSSI(ProxGen):
    """ProxGen's step, with each group solved by plain Newton-Raphson.

    The method of Deleu & Bengio (2021, arXiv:2102.03869), "Structured sparsity inducing adaptive
    optimizers for deep learning". It takes twice the iterations of the exact solver, to the same
    solution.

    Args:
        named_parameters: as from `model.named_parameters()`, or param_groups of such.
        penalties: what to regularize; entries of no penalty have ψ = 0.
        lr: step size, > 0.
        betas: decay rates of the two averages, in [0, 1).
        eps: added to the root, > 0.
        weight_decay: decoupled, >= 0.
        thresholds: decides which channels are zero; the weights of `penalties` when not given.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]],
        penalties: Sequence[Penalty | LowRankPenalty] = (),
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        thresholds: ThresholdRule | None = None,
    ) -> None:
        super().__init__(
            named_parameters,
            penalties,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            thresholds=thresholds,
            solver=NewtonRaphson(),
        )


def _root_correction(settings: dict[str, Any]) -> float:
    return math.sqrt(1.0 - settings["betas"][1] ** settings["step"])
