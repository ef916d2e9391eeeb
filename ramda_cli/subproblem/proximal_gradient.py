"""Proximal gradient on the group lasso subproblem.

From p, with a step θ <= 1/max d for each channel, one iteration of

    y = p - θ (D p - w),    p⁺ = max(0, 1 - θ L / ‖y‖) y

on Q(p) = ½ pᵀ D p - wᵀ p + L ‖p‖. Its optimality condition gives a subgradient of Q at p⁺ for
nothing, s = (D - 1/θ) (p⁺ - p).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ramda_cli.subproblem.cells import Cells
from ramda_cli.subproblem.groups import Groups

# On an accelerator the rule is asked so seldom: asking synchronises with the device.
_ACCELERATOR_CHECKS_EVERY = 10


@dataclass(frozen=True)
class StoppingRule:
    """When to stop; see `ProximalGradient`."""

    tolerance: float | None
    relative_decrease: float | None
    max_iterations: int

    def holds(
        self,
        subgradient: Float[Tensor, ""],
        objective: Float[Tensor, ""],
        before: Float[Tensor, ""],
        start: Float[Tensor, ""],
    ) -> Bool[Tensor, ""]:
        """Return whether to stop after an iteration that went from `before` to `objective`."""
        stop = torch.zeros_like(objective, dtype=torch.bool)
        if self.tolerance is not None:
            stop = (subgradient <= self.tolerance) & (objective <= start)
        if self.relative_decrease is not None:
            size = torch.maximum(objective.abs(), before.abs())
            stop = stop | (before - objective <= self.relative_decrease * size)
        return stop


@dataclass(frozen=True, eq=False)
class Descent:
    """Where proximal gradient ended.

    Attributes:
        norms: ‖p‖ of each channel, in the units of the normalized w.
        certificate: norm of a subgradient of Q, in true units.
        iterations: how many it took.
    """

    norms: Float[Tensor, " channels"]
    certificate: Float[Tensor, ""]
    iterations: int


def descend_(
    groups: Groups,
    iterates: Sequence[Tensor],
    *,
    scale: Float[Tensor, " channels"],
    shrinkage: Float[Tensor, " channels"],
    zero: Bool[Tensor, " channels"],
    rule: StoppingRule,
) -> Descent:
    """Overwrite the normalized w of each member by p, in true units.

    Args:
        groups: normalized.
        iterates: where to start, a tensor per member with its strides.
        scale: what `normalize_` divided by.
        shrinkage: L, in the units of the normalized w.
        zero: channels whose solution is zero.
        rule: when to stop.
    """
    descent = _Descent(groups, scale=scale, shrinkage=shrinkage, zero=zero)
    points = descent.start(iterates)
    objective = start = descent.objective(points)
    subgradient = torch.full_like(objective, torch.inf)
    check_every = 1 if scale.device.type == "cpu" else _ACCELERATOR_CHECKS_EVERY
    stopped = torch.zeros_like(objective, dtype=torch.bool)
    iteration = 0
    for iteration in range(1, rule.max_iterations + 1):
        moved, norm = descent.step(points)
        lowered = descent.objective(moved)
        now = rule.holds(norm, lowered, objective, start)
        # After the stop the points stay, whenever that is noticed.
        points = [torch.where(stopped, old, new) for old, new in zip(points, moved, strict=True)]
        objective = torch.where(stopped, objective, lowered)
        subgradient = torch.where(stopped, subgradient, norm)
        stopped = stopped | now
        if iteration % check_every == 0 and bool(stopped):
            break
    return Descent(descent.finish_(points), subgradient, iteration)


class _Descent:
    def __init__(
        self,
        groups: Groups,
        *,
        scale: Float[Tensor, " channels"],
        shrinkage: Float[Tensor, " channels"],
        zero: Bool[Tensor, " channels"],
    ) -> None:
        self._index = groups.index
        self._members = [(cells, cells.d * factor) for cells, factor in groups.members]
        self._scale, self._shrinkage, self._zero = scale, shrinkage, zero
        largest = self._index.by_channel(
            [_largest(d, _along(cells)) for cells, d in self._members], "max"
        )
        tiny = torch.finfo(scale.dtype).tiny
        self._step = largest.clamp_min(tiny).reciprocal()
        self._steps = self._index.by_cell(self._step, unowned=0.0)

    def start(self, iterates: Sequence[Tensor]) -> list[Tensor]:
        scales = self._index.by_cell(self._scale, unowned=1.0)
        kept = self._index.by_cell((~self._zero).to(self._scale), unowned=1.0)
        points = []
        for x, (cells, _), dim, scale, keep in zip(
            iterates, self._members, self._index.dims, scales, kept, strict=True
        ):
            points.append(Cells.view(x, x, dim).w * (keep / scale).unsqueeze(_along(cells)))
        return points

    def objective(self, points: Sequence[Tensor]) -> Float[Tensor, ""]:
        """Return Q, in true units."""
        smooth, squares = [], []
        for p, (cells, d) in zip(points, self._members, strict=True):
            smooth.append((p * (0.5 * d * p - cells.w)).sum(_along(cells)))
            squares.append(p.square().sum(_along(cells)))
        norms = self._index.by_channel(squares).sqrt()
        each = self._index.by_channel(smooth) + self._shrinkage * norms
        return (each * self._scale.square()).sum()

    def step(self, points: Sequence[Tensor]) -> tuple[list[Tensor], Float[Tensor, ""]]:
        """Return the next points and the norm of the subgradient there, in true units."""
        forward, squares = [], []
        for p, step, (cells, d) in zip(points, self._steps, self._members, strict=True):
            y = p - step.unsqueeze(_along(cells)) * (d * p - cells.w)
            forward.append(y)
            squares.append(y.square().sum(_along(cells)))
        norms = self._index.by_channel(squares).sqrt()
        tiny = torch.finfo(norms.dtype).tiny
        left = (1.0 - self._step * self._shrinkage / norms.clamp_min(tiny)).clamp_min(0.0)
        left = torch.where(self._zero, 0.0, left)
        moved, residuals = [], []
        inverses = self._index.by_cell(self._step.reciprocal(), unowned=0.0)
        for p, y, inverse, share, (cells, d) in zip(
            points, forward, inverses, self._index.by_cell(left, unowned=1.0), self._members,
            strict=True,
        ):  # fmt: skip
            along = _along(cells)
            new = y * share.unsqueeze(along)
            moved.append(new)
            subgradient = (d - inverse.unsqueeze(along)) * (new - p)
            residuals.append(subgradient.square().sum(along))
        squared = self._index.by_channel(residuals) * self._scale.square()
        return moved, torch.where(self._zero, 0.0, squared).sum().sqrt()

    def finish_(self, points: Sequence[Tensor]) -> Float[Tensor, " channels"]:
        """Write the points into w, with the closed form where no channel owns the entry."""
        scales = self._index.by_cell(self._scale, unowned=0.0)
        squares = []
        for p, scale, (cells, d) in zip(points, scales, self._members, strict=True):
            along = _along(cells)
            squares.append(p.square().sum(along))
            scale = scale.unsqueeze(along)
            cells.w.copy_(torch.where(scale == 0, cells.w / d, p * scale))
        return self._index.by_channel(squares).sqrt()


def _largest(d: Tensor, along: int) -> Tensor:
    """Return the largest entry of each cell; 0 of one without entries, which a shard may have."""
    return d.amax(along) if d.shape[along] else d.new_zeros(d.shape[1 - along])


def _along(cells: Cells) -> int:
    return 1 if cells.by_row else 0
