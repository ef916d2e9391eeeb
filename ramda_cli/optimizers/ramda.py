"""Regularized adaptive momentumized dual averaging."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.optim import Optimizer

from ramda_cli.optimizers.active import ActivePenalties, select_active
from ramda_cli.optimizers.penalty import Penalty, lay_out
from ramda_cli.optimizers.thresholds import FixedWeights, ThresholdRule


@dataclass(frozen=True, eq=False)
class _Moving:
    """A parameter that has a gradient in this step."""

    parameter: Tensor
    state: dict[str, Tensor]
    param_group: dict[str, Any]

    @property
    def gradient(self) -> Tensor:
        """The gradient, which it has."""
        if self.parameter.grad is None:
            raise RuntimeError("a parameter lost its gradient during the step")
        return self.parameter.grad

    @property
    def current(self) -> Tensor:
        """The iterate at full precision."""
        return self.state.get("master", self.parameter)


class RAMDA(Optimizer):
    """Dual averaging with a diagonal preconditioner and an exactly solved proximal subproblem.

    At step t, with s_t = lr·√t and gradient g_t:

        v ← v + s_t g_t,   u ← u + s_t g_t²,   α ← α + s_t,   D = u^(1/3) + eps
        p = argmin_x ⟨v, x-x₀⟩ + ½‖x-x₀‖²_D + α ψ(x)
        x ← (1-momentum) x + momentum p

    The zeros of p are exact; those of x are once `momentum` is 1, or after `snap_`.

    The state takes three tensors per parameter, `anchor` (x₀), `grad_sum` (v) and `grad_sq_sum`
    (u), all fp32 at least; a parameter of lower precision also has a fp32 `master` copy of x,
    because averaging with a small momentum would be rounded away. A parameter without a gradient
    is left alone in that step, and so is every penalty that has such a parameter.

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
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]],
        penalties: Sequence[Penalty] = (),
        *,
        lr: float = 1e-2,
        momentum: float = 1e-2,
        eps: float = 1e-6,
        thresholds: ThresholdRule | None = None,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "eps": eps, "step": 0, "step_size_sum": 0.0}
        super().__init__(named_parameters, defaults)
        named = {name: parameter for name, parameter, _ in self._named()}
        self._layout = lay_out(penalties, named)
        self._penalized = [(part, named[part.name]) for part in self._layout.parameters]
        self._thresholds = thresholds
        self._active: tuple[frozenset[str], ActivePenalties] | None = None
        self.certificate: Float[Tensor, ""] = torch.zeros(())

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, as (name, tensor) pairs; none of `penalties` can reach them."""
        settings = {**self.defaults, **param_group}
        lr, momentum, eps = (settings[key] for key in ("lr", "momentum", "eps"))
        if not lr > 0.0:
            raise ValueError(f"lr must be > 0, got {lr}")
        if not 0.0 < momentum <= 1.0:
            raise ValueError(f"momentum must be in (0, 1], got {momentum}")
        if not eps > 0.0:
            raise ValueError(f"eps must be > 0, got {eps}")
        super().add_param_group(param_group)
        if "param_names" not in self.param_groups[-1]:
            raise ValueError("RAMDA needs named parameters: pass model.named_parameters()")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; see the class docstring for the update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moving = self._accumulate()
        if moving:
            self._average(moving, self._solve(moving))
        return loss

    @property
    def solution_zero(self) -> Bool[Tensor, " channels"]:
        """Which channels the last solution had at zero, all penalties one after the other."""
        if not self._penalized:
            return torch.zeros(0, dtype=torch.bool)
        return self._solution_norms() == 0

    def weighted_group_sparsity(self) -> Float[Tensor, ""]:
        """Return the share of penalized entries that the last solution had in zero channels."""
        zero = self.solution_zero
        sizes = torch.from_numpy(self._layout.sizes).to(zero.device, torch.float32)
        return (zero * sizes).sum() / sizes.sum().clamp_min(1.0)

    @torch.no_grad()
    def snap_(self) -> None:
        """Set to exactly zero every channel that the last solution had at zero."""
        if not self._penalized:
            return
        padded = torch.cat([self.solution_zero, self.solution_zero.new_zeros(1)])
        for part, parameter in self._penalized:
            shape = [1] * parameter.ndim
            shape[part.dim] = -1
            mask = padded[torch.from_numpy(part.owner).to(padded.device)].view(shape)
            parameter.masked_fill_(mask, 0.0)
            if "master" in self.state[parameter]:
                self.state[parameter]["master"].masked_fill_(mask, 0.0)

    @torch.no_grad()
    def restart(self) -> None:
        """Take the current weights as the anchor and forget all sums, as at a milestone."""
        for param_group in self.param_groups:
            param_group.update(step=0, step_size_sum=0.0)
        for parameter, state in self.state.items():
            if "anchor" in state:
                state["anchor"].copy_(state.get("master", parameter))
                state["grad_sum"].zero_()
                state["grad_sq_sum"].zero_()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state, bit by bit."""
        super().load_state_dict(state_dict)
        self._active = None
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        own = chain.from_iterable(group["params"] for group in self.param_groups)
        # torch has cast the state to the dtype of its parameter, and shares the rest.
        for number, parameter in zip(saved, own, strict=True):
            for key, value in state_dict["state"].get(number, {}).items():
                self.state[parameter][key] = value.to(parameter.device, copy=True)

    def _named(self) -> list[tuple[str, Tensor, dict[str, Any]]]:
        return [
            (name, parameter, group)
            for group in self.param_groups
            for name, parameter in zip(group["param_names"], group["params"], strict=True)
        ]

    def _accumulate(self) -> dict[str, _Moving]:
        """Add the gradients to the sums of all parameters that have one."""
        moving = {
            name: _Moving(parameter, self._state_of(parameter), group)
            for name, parameter, group in self._named()
            if parameter.grad is not None
        }
        for group in self.param_groups:
            members = [each for each in moving.values() if each.param_group is group]
            if not members:
                continue
            group["step"] += 1
            step_size = group["lr"] * math.sqrt(group["step"])
            group["step_size_sum"] += step_size
            sums = [each.state["grad_sum"] for each in members]
            squares = [each.state["grad_sq_sum"] for each in members]
            gradients = [
                each.gradient.to(total.dtype) for each, total in zip(members, sums, strict=True)
            ]
            torch._foreach_add_(sums, gradients, alpha=step_size)
            torch._foreach_addcmul_(squares, gradients, gradients, value=step_size)
        # Before a first step size above zero there is nothing to solve.
        return {k: each for k, each in moving.items() if each.param_group["step_size_sum"] > 0.0}

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state[parameter]
        if "anchor" not in state:
            precision = torch.promote_types(parameter.dtype, torch.float32)
            state["anchor"] = parameter.detach().to(precision, copy=True)
            state["grad_sum"] = torch.zeros_like(state["anchor"])
            state["grad_sq_sum"] = torch.zeros_like(state["anchor"])
            if parameter.dtype != precision:
                state["master"] = state["anchor"].clone()
        return state

    def _solution_norms(self) -> Float[Tensor, " channels"]:
        # A state_dict holds only what belongs to some parameter: here the first penalized one.
        first = self._penalized[0][1]
        state = self.state[first]
        if "solution_norms" not in state:
            # Positive, since nothing is zero yet, and useless as a guess of the root.
            dtype = torch.promote_types(first.dtype, torch.float32)
            tiny = torch.finfo(dtype).tiny
            state["solution_norms"] = torch.full(
                (self._layout.channels,), tiny, dtype=dtype, device=first.device
            )
        return state["solution_norms"]

    def _solve(self, moving: dict[str, _Moving]) -> dict[str, Tensor]:
        """Return the solution of the subproblem for each moving parameter."""
        active = self._select_active(moving)
        free = [name for name in moving if name not in set(active.members)]
        solutions = dict(zip(free, _closed_form([moving[name] for name in free]), strict=True))
        if active.members:
            members = [moving[name] for name in active.members]
            w, d = _linear_and_diagonal(members)
            sums = [each.param_group["step_size_sum"] for each in members]
            solved = active.solve_(
                w,
                d,
                factors=[sums[0] / each for each in sums],
                scale=sums[0],
                rule=self._thresholds or FixedWeights(active.weights),
                last_norms=self._solution_norms(),
                gradients=[each.gradient for each in members],
                iterates=[each.current for each in members],
            )
            self._solution_norms().copy_(solved.norms)
            self.certificate = solved.certificate
            solutions.update(zip(active.members, w, strict=True))
        for name, (dim, positions) in active.held.items():
            kept = moving[name].current.index_select(dim, positions)
            solutions[name].index_copy_(dim, positions, kept)
        return solutions

    def _select_active(self, moving: dict[str, _Moving]) -> ActivePenalties:
        names = frozenset(moving)
        if self._active is None or self._active[0] != names:
            anchors = {name: each.state["anchor"] for name, each in moving.items()}
            self._active = names, select_active(self._layout, anchors)
        return self._active[1]

    def _average(self, moving: dict[str, _Moving], solutions: dict[str, Tensor]) -> None:
        for group in self.param_groups:
            names = [name for name, each in moving.items() if each.param_group is group]
            if names:
                current = [moving[name].current for name in names]
                targets = [solutions[name] for name in names]
                torch._foreach_lerp_(current, targets, group["momentum"])
        copied = [each for each in moving.values() if "master" in each.state]
        if copied:
            masters = [each.state["master"] for each in copied]
            torch._foreach_copy_([each.parameter for each in copied], masters)


def _diagonal(members: Sequence[_Moving]) -> list[Tensor]:
    """Return D = u^(1/3) + eps."""
    diagonals = torch._foreach_pow([each.state["grad_sq_sum"] for each in members], 1 / 3)
    torch._foreach_add_(diagonals, [each.param_group["eps"] for each in members])
    return [*diagonals]


def _closed_form(members: Sequence[_Moving]) -> list[Tensor]:
    """Return x₀ - v / D, the solution where ψ = 0."""
    if not members:
        return []
    anchors, sums = ([each.state[key] for each in members] for key in ("anchor", "grad_sum"))
    return [*torch._foreach_addcdiv(anchors, sums, _diagonal(members), value=-1.0)]


def _linear_and_diagonal(members: Sequence[_Moving]) -> tuple[list[Tensor], list[Tensor]]:
    """Return D x₀ - v and D."""
    d = _diagonal(members)
    w = [*torch._foreach_mul(d, [each.state["anchor"] for each in members])]
    torch._foreach_sub_(w, [each.state["grad_sum"] for each in members])
    return w, d
