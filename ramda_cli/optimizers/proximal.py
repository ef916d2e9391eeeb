"""The optimizer that all methods share: a subproblem per step, solved over groups, averaged in."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.optim import Optimizer

from ramda_cli.optimizers.active import ActivePenalties, Solutions, owner_here, select_active
from ramda_cli.optimizers.low_rank import (
    LowRankPenalty,
    full_rank,
    low_rank_weights,
    project,
    solve_matrices,
    truncate_,
)
from ramda_cli.optimizers.moving import Moving
from ramda_cli.optimizers.penalty import Penalty, lay_out
from ramda_cli.optimizers.ranks import RankRule, truncate_matrices
from ramda_cli.optimizers.shards import common_group, is_sharded, local, part_here, whole
from ramda_cli.optimizers.thresholds import FixedWeights, Stateful, ThresholdRule
from ramda_cli.subproblem import (
    AlternatingDirections,
    LowRankSolver,
    ProximalGradient,
    ProximalGradientSteps,
    Solver,
    solver_named,
)

OF_CHANNELS = {"solution_norms", "solution_ratios"}
"""What a parameter's state holds for all channels, and not for the parameter."""


@dataclass(frozen=True, eq=False)
class Subproblem:
    """What a step minimises, argmin_p ⟨v, p-x₀⟩ + ½‖p-x₀‖²_D + α ψ(p), a tensor per parameter.

    Attributes:
        anchor: x₀.
        linear: v.
        diagonal: of D, > 0, with the strides of the anchor.
    """

    anchor: Sequence[Tensor]
    linear: Sequence[Tensor]
    diagonal: Sequence[Tensor]


class ProximalOptimizer(Optimizer, ABC):
    """Averages into its iterate the solution of a subproblem, which each method builds its own way.

    A subclass says what state a parameter has, how a gradient enters it, and what anchor, linear
    term, diagonal and scale the subproblem then has.

    A parameter of lower precision than fp32 also has a fp32 `master` copy of the iterate, because
    averaging with a small weight would be rounded away. A parameter without a gradient is left
    alone in that step, and so is every penalty that has such a parameter.

    Args:
        named_parameters: as from `model.named_parameters()`, or param_groups of such.
        penalties: what to regularize, channels or matrices; entries of no penalty have ψ = 0.
        defaults: settings of param_groups that do not give their own.
        thresholds: decides which channels are zero; the weights of `penalties` when not given.
        solver: solves the subproblem of the channels that are not zero.
        low_rank_solver: solves that of the matrices; when not given alternating directions, or
            proximal gradient where `solver` is that, which then stops early if `solver` does.

    Attributes:
        rank_rule: decides the ranks of the matrices in place of their norms' weights; may be set.
        threshold_every: steps of which the first thresholds singular values; may be set, 1 at
            first.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]],
        penalties: Sequence[Penalty | LowRankPenalty],
        defaults: dict[str, Any],
        *,
        thresholds: ThresholdRule | None,
        solver: Solver | str,
        low_rank_solver: LowRankSolver | None = None,
    ) -> None:
        super().__init__(named_parameters, {**defaults, "step": 0})
        named = {name: parameter for name, parameter, _ in self._named()}
        of_channels, of_matrices = _sorted_out(penalties)
        self._layout = lay_out(of_channels, named)
        self._low_rank = low_rank_weights(of_matrices, named)
        twice = next((p.name for p in self._layout.parameters if p.name in self._low_rank), None)
        if twice is not None:
            raise ValueError(f"{twice} is penalized by its channels and by its rank")
        self._shard_group = common_group(named[part.name] for part in self._layout.parameters)
        if self._low_rank and is_sharded(named[name] for name in self._low_rank):
            raise ValueError("a nuclear norm needs whole matrices, and these are sharded")
        self.rank_rule: RankRule | None = None
        self.threshold_every = 1
        self._penalized = [(part, named[part.name]) for part in self._layout.parameters]
        self.thresholds = thresholds
        self._solver = solver_named(solver) if isinstance(solver, str) else solver
        self._low_rank_solver = low_rank_solver or _solver_of_ranks(self._solver)
        self._active: tuple[frozenset[str], ActivePenalties] | None = None
        self.certificate: Float[Tensor, ""] = torch.zeros(())

    @abstractmethod
    def check_settings(self, settings: dict[str, Any]) -> None:
        """Raise ValueError where a setting of a param_group is out of its range."""

    @abstractmethod
    def new_state(self, start: Tensor) -> dict[str, Tensor]:
        """Return a parameter's tensors before the first step.

        Args:
            start: the parameter, detached, fp32 at least; may be kept.
        """

    @abstractmethod
    def accumulate(self, members: Sequence[Moving], settings: dict[str, Any]) -> None:
        """Take the gradients of one param_group into the state; its `step` counts this one."""

    @abstractmethod
    def subproblem(self, members: Sequence[Moving]) -> Subproblem:
        """Return the subproblem of some parameters, of any param_groups; it may be overwritten."""

    @abstractmethod
    def scale(self, settings: dict[str, Any]) -> float:
        """Return α of a param_group; 0 where there is nothing to solve yet."""

    def averaging(self, settings: dict[str, Any]) -> float:
        """Return the weight of the solution in the new iterate."""
        del settings
        return 1.0

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, as (name, tensor) pairs; none of `penalties` can reach them."""
        self.check_settings({**self.defaults, **param_group})
        super().add_param_group(param_group)
        if "param_names" not in self.param_groups[-1]:
            name = type(self).__name__
            raise ValueError(f"{name} needs named parameters: pass model.named_parameters()")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; the class docstring has the update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moving = self._moving()
        if moving and not self.fused_step(moving):
            moving = self._accumulate(moving)
            if moving:
                self._average(moving, self._solve(moving))
        return loss

    def fused_step(self, moving: dict[str, Moving]) -> bool:
        """Take the whole step by kernels, if the method has such and they can; else do nothing."""
        del moving
        return False

    @property
    def solution_zero(self) -> Bool[Tensor, " channels"]:
        """Which channels the last solution had at zero, all penalties one after the other."""
        return self._solutions().norms == 0

    def weighted_group_sparsity(self) -> Float[Tensor, ""]:
        """Return the share of penalized entries that the last solution had in zero channels."""
        zero = self.solution_zero
        sizes = torch.from_numpy(self._layout.sizes).to(zero.device, torch.float32)
        return (zero * sizes).sum() / sizes.sum().clamp_min(1.0)

    @torch.no_grad()
    def snap_(self) -> None:
        """Give the iterate the zero channels of the last solution, exactly, and its ranks.

        A rank is that of fp32: a parameter of lower precision is the rounded master copy.
        """
        self._snap_ranks_()
        if not self._penalized:
            return
        padded = torch.cat([self.solution_zero, self.solution_zero.new_zeros(1)])
        for part, parameter in self._penalized:
            shape = [1] * parameter.ndim
            shape[part.dim] = -1
            owner = torch.from_numpy(owner_here(part, parameter)).to(padded.device)
            mask = padded[owner].view(shape)
            local(parameter).masked_fill_(mask, 0.0)
            if "master" in self.state[parameter]:
                self.state[parameter]["master"].masked_fill_(mask, 0.0)

    def ranks(self) -> dict[str, tuple[int, int]]:
        """Return rank and full rank of the last solution of each penalized matrix."""
        return {
            name: (
                int(self.state[parameter].get("low_rank_rank", full_rank(parameter))),
                full_rank(parameter),
            )
            for name, parameter, _ in self._named()
            if name in self._low_rank
        }

    def low_rank_level(self) -> float:
        """Return 1 - Σ ranks / Σ full ranks, over the penalized matrices; 0 without any."""
        ranks = [*self.ranks().values()]
        left, full = (sum(part) for part in zip(*ranks, strict=True)) if ranks else (1, 1)
        return 1.0 - left / full

    def _snap_ranks_(self) -> None:
        for name, parameter, _ in self._named():
            if name in self._low_rank and "low_rank_rank" in self.state[parameter]:
                state = self.state[parameter]
                rank = int(state["low_rank_rank"])
                if rank < full_rank(parameter):
                    iterate = state.get("master", parameter)
                    if self.rank_rule is None:
                        truncate_(iterate, rank)
                    else:
                        iterate.copy_(project(state, iterate))
                    parameter.copy_(iterate)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all parameters, and that of rules which have one.

        Where processes hold rows of the parameters, all of them must call this: it is the state of
        the whole, which any number of processes can load.
        """
        state = {**super().state_dict(), "certificate": self.certificate}
        every = [parameter for _, parameter, _ in self._named()]
        if is_sharded(every):  # as one process would have it
            numbers = chain.from_iterable(group["params"] for group in state["param_groups"])
            state["state"] = {
                number: {
                    key: value if key in OF_CHANNELS else whole(value, parameter)
                    for key, value in state["state"][number].items()
                }
                for number, parameter in zip(numbers, every, strict=True)
                if number in state["state"]
            }
        for name, rule in self._stateful_rules().items():
            state[name] = rule.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state, bit by bit."""
        super().load_state_dict(state_dict)
        for name, rule in self._stateful_rules().items():
            rule.load_state_dict(state_dict[name])
        self._active = None
        self.certificate = state_dict["certificate"].clone()
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        own = chain.from_iterable(group["params"] for group in self.param_groups)
        # torch has cast the state to the dtype of its parameter, and shares the rest.
        for number, parameter in zip(saved, own, strict=True):
            for key, value in state_dict["state"].get(number, {}).items():
                here = value if key in OF_CHANNELS else part_here(value, parameter)
                self.state[parameter][key] = here.to(parameter.device, copy=True)

    def _stateful_rules(self) -> dict[str, Stateful]:
        """Return the rules with a state of their own; one may decide channels and ranks."""
        rules: dict[str, object] = {"thresholds": self.thresholds}
        if not any(rule is self.rank_rule for rule in rules.values()):
            rules["rank_rule"] = self.rank_rule
        return {name: rule for name, rule in rules.items() if isinstance(rule, Stateful)}

    def _named(self) -> list[tuple[str, Tensor, dict[str, Any]]]:
        return [
            (name, parameter, group)
            for group in self.param_groups
            for name, parameter in zip(group["param_names"], group["params"], strict=True)
        ]

    def _moving(self) -> dict[str, Moving]:
        return {
            name: Moving(local(parameter), local(parameter.grad), self._state_of(parameter), group)
            for name, parameter, group in self._named()
            if parameter.grad is not None
        }

    def _accumulate(self, moving: dict[str, Moving]) -> dict[str, Moving]:
        """Take in the gradients; return the parameters that then have something to solve."""
        for group in self.param_groups:
            members = [each for each in moving.values() if each.param_group is group]
            if members:
                group["step"] += 1
                self.accumulate(members, group)
        return {k: each for k, each in moving.items() if self.scale(each.param_group) > 0.0}

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state[parameter]
        if state.keys() <= OF_CHANNELS:
            precision = torch.promote_types(parameter.dtype, torch.float32)
            start = local(parameter.detach()).to(precision, copy=True)
            if parameter.dtype != precision:
                state["master"] = start.clone()
            state.update(self.new_state(start))
        return state

    def _solutions(self) -> Solutions:
        if not self._penalized:
            return Solutions.unsolved(0, torch.float32, self.param_groups[0]["params"][0].device)
        # A state_dict holds only what belongs to some parameter: here the first penalized one.
        first = self._penalized[0][1]
        state = self.state[first]
        if "solution_norms" not in state:
            dtype = torch.promote_types(first.dtype, torch.float32)
            unsolved = Solutions.unsolved(self._layout.channels, dtype, first.device)
            state["solution_norms"], state["solution_ratios"] = unsolved.norms, unsolved.ratios
        return Solutions(state["solution_norms"], state["solution_ratios"])

    def _solve(self, moving: dict[str, Moving]) -> dict[str, Tensor]:
        """Return the solution of the subproblem for each moving parameter."""
        active = self._select_active(moving)
        penalized = {*active.members, *self._low_rank}
        free = [name for name in moving if name not in penalized]
        solutions = dict(zip(free, self._closed_form([moving[n] for n in free]), strict=True))
        matrices = [name for name in moving if name in self._low_rank]
        # A rule of ranks and channels together decides when it sees the ranks.
        found, self.certificate = self._solve_matrices(matrices, [moving[n] for n in matrices])
        solutions.update(zip(matrices, found, strict=True))
        if active.members:
            members = [moving[name] for name in active.members]
            w, d = self._linear_and_diagonal(members)
            scales = [self.scale(each.param_group) for each in members]
            last = self._solutions()
            solved, certificate = active.solve_(
                w,
                d,
                factors=[scales[0] / each for each in scales],
                scale=scales[0],
                rule=self.thresholds or FixedWeights(active.weights, active.gammas),
                solver=self._solver,
                last=last,
                gradients=[each.gradient for each in members],
                iterates=[each.current for each in members],
            )
            last.copy_(solved)
            solutions.update(zip(active.members, w, strict=True))
            self.certificate = torch.hypot(certificate, self.certificate.to(certificate))
        for name, (dim, positions) in active.held.items():
            kept = moving[name].current.index_select(dim, positions)
            solutions[name].index_copy_(dim, positions, kept)
        return solutions

    def _solve_matrices(
        self, names: Sequence[str], members: Sequence[Moving]
    ) -> tuple[list[Tensor], Float[Tensor, ""]]:
        """Return the solutions of matrices, and their certificate."""
        if not names:
            return [], torch.zeros(())
        if self.rank_rule is not None:
            w, d = self._linear_and_diagonal(members)
            return truncate_matrices(names, members, w, d, self.rank_rule), torch.zeros(())
        scales = [self.scale(each.param_group) for each in members]
        shrinkage = [self._low_rank[n] * scale for n, scale in zip(names, scales, strict=True)]
        return solve_matrices(
            members, self._linear_and_diagonal, shrinkage, self._low_rank_solver,
            every=self.threshold_every,
        )  # fmt: skip

    def _select_active(self, moving: dict[str, Moving]) -> ActivePenalties:
        names = frozenset(moving)
        if self._active is None or self._active[0] != names:
            like = dict(zip(moving, self.subproblem([*moving.values()]).anchor, strict=True))
            parameters = {name: p for name, p, _ in self._named()}
            self._active = names, select_active(self._layout, like, parameters)
        return self._active[1]

    def _closed_form(self, members: Sequence[Moving]) -> list[Tensor]:
        """Return x₀ - v / D, the solution where ψ = 0."""
        if not members:
            return []
        problem = self.subproblem(members)
        parts = problem.anchor, problem.linear, problem.diagonal
        anchor, linear, diagonal = (list(part) for part in parts)
        return [*torch._foreach_addcdiv(anchor, linear, diagonal, value=-1.0)]

    def _linear_and_diagonal(self, members: Sequence[Moving]) -> tuple[list[Tensor], list[Tensor]]:
        """Return D x₀ - v and D."""
        problem = self.subproblem(members)
        d = [*problem.diagonal]
        w = [*torch._foreach_mul(d, [*problem.anchor])]
        torch._foreach_sub_(w, [*problem.linear])
        return w, d

    def _average(self, moving: dict[str, Moving], solutions: dict[str, Tensor]) -> None:
        for group in self.param_groups:
            names = [name for name, each in moving.items() if each.param_group is group]
            if names:
                current = [moving[name].current for name in names]
                targets = [solutions[name] for name in names]
                torch._foreach_lerp_(current, targets, self.averaging(group))
        copied = [each for each in moving.values() if "master" in each.state]
        if copied:
            masters = [each.state["master"] for each in copied]
            torch._foreach_copy_([each.parameter for each in copied], masters)


def _solver_of_ranks(solver: Solver) -> LowRankSolver:
    if not isinstance(solver, ProximalGradient):
        return AlternatingDirections()
    if solver.relative_decrease is None:
        return ProximalGradientSteps(relative_decrease=None)
    return ProximalGradientSteps()


def _sorted_out(
    penalties: Iterable[Penalty | LowRankPenalty],
) -> tuple[list[Penalty], list[LowRankPenalty]]:
    channels: list[Penalty] = []
    matrices: list[LowRankPenalty] = []
    for penalty in penalties:
        if isinstance(penalty, Penalty):
            channels.append(penalty)
        elif isinstance(penalty, LowRankPenalty):
            matrices.append(penalty)
        else:
            kind = type(penalty).__name__
            raise TypeError(f"penalties must be Penalty or LowRankPenalty, got {kind}")
    return channels, matrices
