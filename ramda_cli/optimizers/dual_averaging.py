"""Dual averaging with momentum: RAMDA, and RMDA, which has no preconditioner."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ramda_cli.optimizers.active import ActivePenalties
from ramda_cli.optimizers.fused import (
    Kernels,
    Operand,
    Settings,
    kernels_for,
    laid_out_gradient,
    operand,
    take_step,
    why_not,
)
from ramda_cli.optimizers.low_rank import LowRankPenalty
from ramda_cli.optimizers.moving import Moving
from ramda_cli.optimizers.penalty import Penalty
from ramda_cli.optimizers.proximal import ProximalOptimizer, Subproblem
from ramda_cli.optimizers.shards import local
from ramda_cli.optimizers.thresholds import FixedWeights, ThresholdRule
from ramda_cli.subproblem import ExactSolver, LowRankSolver, Solver


class DualAveraging(ProximalOptimizer):
    """What RAMDA and RMDA share: sums of gradients since the anchor, which a restart moves."""

    def accumulate(self, members: Sequence[Moving], settings: dict[str, Any]) -> None:
        """Add the gradients, weighted by s_t = lr √t, to the sums."""
        step_size = float(self._advance(settings))
        sums = [each.state["grad_sum"] for each in members]
        gradients = [
            each.gradient.to(total.dtype) for each, total in zip(members, sums, strict=True)
        ]
        torch._foreach_add_(sums, gradients, alpha=step_size)
        if "grad_sq_sum" in members[0].state:
            squares = [each.state["grad_sq_sum"] for each in members]
            torch._foreach_addcmul_(squares, gradients, gradients, value=step_size)

    @staticmethod
    def _advance(settings: dict[str, Any]) -> float | Tensor:
        """Return s_t, and add it to α; on the device if the step is counted there."""
        step = settings["step"]
        root = step.sqrt() if isinstance(step, Tensor) else math.sqrt(step)
        step_size: float | Tensor = settings["lr"] * root
        settings["step_size_sum"] += step_size
        return step_size

    def scale(self, settings: dict[str, Any]) -> float:
        """Return α, the sum of the step sizes."""
        return float(settings["step_size_sum"])

    def averaging(self, settings: dict[str, Any]) -> float:
        """Return c, the `momentum`."""
        return float(settings["momentum"])

    @torch.no_grad()
    def restart(self) -> None:
        """Take the current weights as the anchor and forget all sums, as at a milestone."""
        for param_group in self.param_groups:
            for key in ("step", "step_size_sum"):
                value = param_group[key]
                # In place on a device: a captured graph goes on with the same tensor.
                param_group[key] = value.zero_() if isinstance(value, Tensor) else type(value)(0)
        for parameter, state in self.state.items():
            if "anchor" in state:
                state["anchor"].copy_(state.get("master", local(parameter)))
                for key in ("grad_sum", "grad_sq_sum"):
                    if key in state:
                        state[key].zero_()


class RAMDA(DualAveraging):
    """Dual averaging with a diagonal preconditioner and an exactly solved proximal subproblem.

    At step t, with s_t = lr·√t and gradient g_t:

        v ← v + s_t g_t,   u ← u + s_t g_t²,   α ← α + s_t,   D = u^(1/3) + eps
        p = argmin_x ⟨v, x-x₀⟩ + ½‖x-x₀‖²_D + α ψ(x)
        x ← (1-momentum) x + momentum p

    The zeros of p are exact; those of x are once `momentum` is 1, or after `snap_`. Without
    penalties it is MADGRAD (Defazio and Jelassi, 2021).

    The state takes three tensors per parameter, `anchor` (x₀), `grad_sum` (v) and `grad_sq_sum`
    (u), all fp32 at least: 12 bytes. A parameter of lower precision also has a fp32 `master` copy
    of x.

    `lr`, `momentum` and `eps` may be changed in `param_groups` between steps. Where the members of
    a penalty have different sums α, each one's linear and quadratic terms are rescaled to the
    first α: another lr is then another metric, and not another regularizer.

    Reference: Huang & Lee, NeurIPS 2024 (arXiv:2403.14398).

    Args:
        named_parameters: as from `model.named_parameters()`, or param_groups of such.
        penalties: what to regularize; entries of no penalty have ψ = 0.
        lr: step size, > 0.
        momentum: weight of the new solution in the iterate, in (0, 1].
        eps: added to the preconditioner, > 0.
        thresholds: decides which channels are zero; the weights of `penalties` when not given.
        solver: `exact`; or `pg`, the paper's proximal gradient; or one with settings of its own.
        low_rank_solver: of matrices under a nuclear norm; when not given alternating directions,
            or with proximal gradient as `solver` that of the paper.
        fused: whether steps are taken by kernels, in two passes over memory: wherever they can be
            when None. Kernels want the exact solver, parameters on one device, a CPU with a C++
            compiler or a CUDA device with Triton, fp32 or lower precision, and no nuclear norm.
        capturable: whether to count steps on the device, so that a CUDA graph can capture a step.
            `lr`, `momentum` and `eps` may then be tensors there, which schedules change in place.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]],
        penalties: Sequence[Penalty | LowRankPenalty] = (),
        *,
        lr: float | Tensor = 1e-2,
        momentum: float | Tensor = 1e-2,
        eps: float | Tensor = 1e-6,
        thresholds: ThresholdRule | None = None,
        solver: Solver | str = "exact",
        low_rank_solver: LowRankSolver | None = None,
        fused: bool | None = None,
        capturable: bool = False,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "eps": eps, "step_size_sum": 0.0}
        defaults["capturable"] = capturable
        super().__init__(
            named_parameters, penalties, defaults,
            thresholds=thresholds, solver=solver, low_rank_solver=low_rank_solver,
        )  # fmt: skip
        self._fused = fused
        self._kernels: tuple[ActivePenalties, Kernels, list[Operand]] | None = None
        if fused and not isinstance(self._solver, ExactSolver):
            raise ValueError("fused=True needs solver='exact'")

    def check_settings(self, settings: dict[str, Any]) -> None:
        """Raise ValueError where `lr`, `momentum` or `eps` is out of its range."""
        check_lr_and_momentum(settings)
        if not settings["eps"] > 0.0:
            raise ValueError(f"eps must be > 0, got {settings['eps']}")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, as (name, tensor) pairs; none of `penalties` can reach them."""
        super().add_param_group(param_group)
        _count_where_told(self.param_groups[-1])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state, bit by bit; a graph captured before has to be captured anew."""
        super().load_state_dict(state_dict)
        for param_group in self.param_groups:
            _count_where_told(param_group)

    def new_state(self, start: Tensor) -> dict[str, Tensor]:
        """Return the anchor and the two sums."""
        return {
            "anchor": start,
            "grad_sum": torch.zeros_like(start),
            "grad_sq_sum": torch.zeros_like(start),
        }

    def subproblem(self, members: Sequence[Moving]) -> Subproblem:
        """Return the anchor, v and D = u^(1/3) + eps."""
        d = torch._foreach_pow([each.state["grad_sq_sum"] for each in members], 1 / 3)
        torch._foreach_add_(d, [each.param_group["eps"] for each in members])
        anchor, linear = ([each.state[key] for each in members] for key in ("anchor", "grad_sum"))
        return Subproblem(anchor, linear, d)

    def fused_step(self, moving: dict[str, Moving]) -> bool:
        """Take the whole step by kernels if they can; else do nothing.

        Raises:
            RuntimeError: they cannot, and `fused` is True.
        """
        if self._fused is False or not isinstance(self._solver, ExactSolver):
            return False
        active = self._select_active(moving)
        matrices = any(name in self._low_rank for name in moving)
        reason = (
            "there are no kernels for a nuclear norm"
            if matrices
            else why_not([*moving.values()], active)
        )
        if reason is not None and self._fused:
            raise RuntimeError(f"fused=True, but {reason}")
        groups = [g for g in self.param_groups if any(m.param_group is g for m in moving.values())]
        # A param_group that has not had a step size above zero has nothing to solve yet. Where
        # steps are counted on the device, asking would wait for it.
        started = all(g["capturable"] or self.scale(g) + g["lr"] > 0.0 for g in groups)
        if reason is not None or not started:
            return False
        if self._kernels is None or self._kernels[0] is not active:
            numbers = {id(group): number for number, group in enumerate(groups)}
            operands = [operand(each, numbers[id(each.param_group)]) for each in moving.values()]
            self._kernels = active, kernels_for(moving, active), operands
        self._take_fused_step(moving, groups, *self._kernels)
        return True

    def _take_fused_step(
        self,
        moving: dict[str, Moving],
        groups: list[dict[str, Any]],
        active: ActivePenalties,
        kernels: Kernels,
        operands: Sequence[Operand],
    ) -> None:
        leading = moving[active.members[0]].param_group if active.members else groups[0]
        # A tensor is added to in place.
        before = leading["step_size_sum"] + 0.0
        for group in groups:
            group["step"] += 1
        sizes = [self._advance(group) for group in groups]
        scale = leading["step_size_sum"]
        settings = [
            Settings(size, group["eps"], group["momentum"], scale / group["step_size_sum"])
            for size, group in zip(sizes, groups, strict=True)
        ]
        solved, self.certificate = take_step(
            kernels,
            operands,
            [laid_out_gradient(each) for each in moving.values()],
            settings,
            active=active,
            scale=scale,
            growth=_ratio(scale, before),
            rule=self.thresholds or FixedWeights(active.weights, active.gammas),
            last=self._solutions(),
        )
        self._solutions().copy_(solved)


class RMDA(DualAveraging):
    """Dual averaging with momentum; the subproblem has the closed form of a proximal operator.

    At step t, with s_t = lr·√t and gradient g_t:

        v ← v + s_t g_t,   α ← α + s_t
        p = argmin_x ⟨v, x-x₀⟩ + ½√t ‖x-x₀‖² + α ψ(x)
        x ← (1-momentum) x + momentum p

    Reference: Huang & Lee, ICLR 2022 (arXiv:2112.02612).

    Args:
        named_parameters: as from `model.named_parameters()`, or param_groups of such.
        penalties: what to regularize; entries of no penalty have ψ = 0.
        lr: step size, > 0.
        momentum: weight of the new solution in the iterate, in (0, 1].
        thresholds: decides which channels are zero; the weights of `penalties` when not given.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]],
        penalties: Sequence[Penalty | LowRankPenalty] = (),
        *,
        lr: float = 1e-1,
        momentum: float = 1e-2,
        thresholds: ThresholdRule | None = None,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "step_size_sum": 0.0}
        super().__init__(
            named_parameters, penalties, defaults, thresholds=thresholds, solver=ExactSolver()
        )

    def check_settings(self, settings: dict[str, Any]) -> None:
        """Raise ValueError where `lr` or `momentum` is out of its range."""
        check_lr_and_momentum(settings)

    def new_state(self, start: Tensor) -> dict[str, Tensor]:
        """Return the anchor and the sum."""
        return {"anchor": start, "grad_sum": torch.zeros_like(start)}

    def subproblem(self, members: Sequence[Moving]) -> Subproblem:
        """Return the anchor, v and D = √t."""
        anchor, linear = ([each.state[key] for each in members] for key in ("anchor", "grad_sum"))
        d = [
            torch.full_like(x, math.sqrt(each.param_group["step"]))
            for x, each in zip(anchor, members, strict=True)
        ]
        return Subproblem(anchor, linear, d)


def check_lr_and_momentum(settings: dict[str, Any]) -> None:
    """Raise ValueError where one is out of its range."""
    if not settings["lr"] > 0.0:
        raise ValueError(f"lr must be > 0, got {settings['lr']}")
    if not 0.0 < settings["momentum"] <= 1.0:
        raise ValueError(f"momentum must be in (0, 1], got {settings['momentum']}")


def _count_where_told(param_group: dict[str, Any]) -> None:
    """Keep the counters of a param_group as tensors on its device, if it is capturable."""
    if param_group["capturable"]:
        device = param_group["params"][0].device
        for key in ("step", "step_size_sum"):
            value = torch.as_tensor(param_group[key], dtype=torch.float64, device=device)
            param_group[key] = value


def _ratio(after: float | Tensor, before: float | Tensor) -> float | Tensor:
    """Return how much α has grown; 1 in the first step."""
    if isinstance(before, Tensor):
        return torch.where(before > 0, after / before, 1.0)
    return after / before if before > 0.0 else 1.0
