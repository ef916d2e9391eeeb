"""The subproblem under a nuclear norm, for matrices of one shape together.

    min_P  ½ ⟨P, D∘P⟩ - ⟨W, P⟩ + L ‖P‖_*,    D > 0 entry by entry.

The alternating direction method of multipliers (Boyd et al., 2011, section 3) splits P from a copy
Z that the norm sees. With a step ρ and multipliers U, one iteration is

    P = (W + ρ Z - U) / (D + ρ),    P̂ = 1.6 P - 0.6 Z,
    Z = SVT(P̂ + U/ρ, L/ρ),          U ← U + ρ (P̂ - Z),

over-relaxed (ibid., 3.4.3). As D spans decades, ρ is first its geometric mean, and then, within the
range of D, brought to where ‖P - Z‖ and ‖Z - Z_last‖ are alike (after 3.4.1, whose residuals are
the first and ρ times the second). Z, which is returned, is a result of the thresholding: its rank
is exact. U is in L ∂‖Z‖_* then, so that S = D∘Z - W + U is a subgradient at Z for nothing, and ‖S‖
the certificate.

Both Z and U / L of one step of an optimizer are where the next one begins. The problem moves little
in a step, so that one or two thresholdings keep up with it.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ramda_cli.regularizers.singular_values import threshold_singular_values

_RELAXATION = 1.6
_BALANCE_EVERY = 2
_ROUNDINGS = 8.0
_LARGEST_FACTOR = 10.0


@dataclass(frozen=True, eq=False)
class LowRankSolution:
    """What was found.

    Attributes:
        matrix: Z.
        rank: of each.
        certificate: ‖S‖ of each; 0 where Z is the solution.
        iterations: how many thresholdings it took, of the matrix that took the most.
        subgradient: U / L, with which the next problem may begin; None where there is none.
    """

    matrix: Float[Tensor, "batch rows cols"]
    rank: Int[Tensor, " batch"]
    certificate: Float[Tensor, " batch"]
    iterations: int
    subgradient: Float[Tensor, "batch rows cols"] | None = None


class LowRankSolver(Protocol):
    """Solves the subproblem of matrices of one shape."""

    def solve(
        self,
        w: Float[Tensor, "batch rows cols"],
        d: Float[Tensor, "batch rows cols"],
        shrinkage: Float[Tensor, " batch"],
        *,
        start: Float[Tensor, "batch rows cols"],
        subgradient: Float[Tensor, "batch rows cols"] | None = None,
    ) -> LowRankSolution:
        """Solve from `start`, and a subgradient of the norm there where one is known."""
        ...


@dataclass(frozen=True)
class AlternatingDirections:
    """Stops when ‖S‖ <= `tolerance` ‖D∘Z‖ for every matrix, or after `max_iterations`.

    D∘Z = W - U is what is left of W; in the long run of dual averaging it is a small part, and an
    error that is small beside W itself could be as large as the solution. What rounding makes of W
    is allowed for.

    Attributes:
        tolerance: relative, >= 0. Each of the default's steps takes one to three thresholdings,
            1e-2 takes four to eight.
        max_iterations: at least 1.
    """

    tolerance: float = 0.1
    max_iterations: int = 50

    def __post_init__(self) -> None:
        """Raise ValueError where a setting is out of its range."""
        _check("tolerance", self.tolerance, self.max_iterations)

    def solve(
        self,
        w: Float[Tensor, "batch rows cols"],
        d: Float[Tensor, "batch rows cols"],
        shrinkage: Float[Tensor, " batch"],
        *,
        start: Float[Tensor, "batch rows cols"],
        subgradient: Float[Tensor, "batch rows cols"] | None = None,
    ) -> LowRankSolution:
        """Solve from `start`.

        Args:
            w: W, a problem along dimension 0.
            d: D.
            shrinkage: L >= 0 of each problem.
            start: a guess of the solutions, such as the last ones.
            subgradient: a guess of U / L, as `LowRankSolution` has it.
        """
        limit = shrinkage[:, None, None]
        u = w - d * start if subgradient is None else limit * subgradient
        rounding = _ROUNDINGS * torch.finfo(w.dtype).eps * torch.linalg.matrix_norm(w)
        live = torch.arange(len(w), device=w.device)
        whole = going = _Going(w, d, shrinkage, start, u)
        for iteration in range(1, self.max_iterations + 1):
            going.iterate(balance=iteration % _BALANCE_EVERY == 0)
            if going is not whole:
                whole.take(going, live)
            unsolved = ~(going.residual <= self.tolerance * going.size + rounding[live])
            if not bool(unsolved.any()):
                break
            if not bool(unsolved.all()):
                # What is solved stays as it is while others go on.
                live, going = live[unsolved], going.of(unsolved)
        known = whole.u.div_(limit.clamp_min(torch.finfo(w.dtype).tiny)).mul_(limit > 0)
        return LowRankSolution(whole.z, whole.rank, whole.residual, iteration, known)


class _Going:
    """The matrices that are not solved yet, in the middle of the iteration."""

    def __init__(self, w: Tensor, d: Tensor, shrinkage: Tensor, z: Tensor, u: Tensor) -> None:
        self.w, self.d, self.shrinkage, self.z, self.u = w, d, shrinkage, z, u
        self.least, self.most = d.amin((-2, -1)), d.amax((-2, -1))
        self.rho = d.log().mean((-2, -1)).exp()
        self.rank = torch.zeros_like(shrinkage, dtype=torch.int64)
        self.residual = self.size = torch.full_like(shrinkage, torch.inf)

    def iterate(self, *, balance: bool) -> None:
        """Take one iteration."""
        # Passes over memory are half of the time: few, and in place where they can be.
        at = self.rho[:, None, None]
        p = torch.addcmul(self.w, at, self.z).sub_(self.u).div_(self.d + at)
        point = torch.lerp(self.z, p, _RELAXATION).addcdiv_(self.u, at)
        found = threshold_singular_values(point, self.shrinkage / self.rho)
        moved = found.matrix
        self.u = point.sub_(moved).mul_(at)
        metric = self.d * moved
        self.size = torch.linalg.matrix_norm(metric)
        self.residual = torch.linalg.matrix_norm(metric.sub_(self.w).add_(self.u))
        self.rank = found.rank
        if balance:
            primal = torch.linalg.matrix_norm(p - moved)
            rho = self.rho * _balance(primal, torch.linalg.matrix_norm(moved - self.z))
            self.rho = torch.maximum(torch.minimum(rho, self.most), self.least)
        self.z = moved

    def take(self, fewer: "_Going", numbers: Tensor) -> None:
        """Take in what has become of some of them."""
        for name in ("z", "u", "rank", "residual"):
            getattr(self, name)[numbers] = getattr(fewer, name)

    def of(self, chosen: Tensor) -> "_Going":
        """Return some of them."""
        fewer = object.__new__(_Going)
        for name, value in vars(self).items():
            setattr(fewer, name, value[chosen])
        return fewer


@dataclass(frozen=True)
class ProximalGradientSteps:
    """Proximal gradient with the step 1 / max D of each matrix, the paper's solver.

    It stops when an iteration lowered no objective by more than `relative_decrease` of its size.

    Attributes:
        relative_decrease: >= 0; None takes all iterations.
        max_iterations: at least 1.
    """

    relative_decrease: float | None = 1e-3
    max_iterations: int = 5

    def __post_init__(self) -> None:
        """Raise ValueError where a setting is out of its range."""
        _check("relative_decrease", self.relative_decrease or 0.0, self.max_iterations)

    def solve(
        self,
        w: Float[Tensor, "batch rows cols"],
        d: Float[Tensor, "batch rows cols"],
        shrinkage: Float[Tensor, " batch"],
        *,
        start: Float[Tensor, "batch rows cols"],
        subgradient: Float[Tensor, "batch rows cols"] | None = None,
    ) -> LowRankSolution:
        """Solve from `start`; a subgradient is of no use to it."""
        del subgradient
        rate = d.amax((-2, -1))
        at, p, before = rate[:, None, None], start, None
        iterations = 0
        while iterations < self.max_iterations:
            iterations += 1
            found = threshold_singular_values(p - (d * p - w) / at, shrinkage / rate)
            last, p = p, found.matrix
            smooth = (0.5 * d * p.square() - w * p).sum((-2, -1))
            objective = smooth + shrinkage * found.nuclear_norm
            if before is not None and self._stops(before, objective):
                break
            before = objective
        certificate = torch.linalg.matrix_norm((d - at) * (p - last))
        return LowRankSolution(p, found.rank, certificate, iterations)

    def _stops(self, before: Float[Tensor, " batch"], objective: Float[Tensor, " batch"]) -> bool:
        if self.relative_decrease is None:
            return False
        return bool((before - objective <= self.relative_decrease * before.abs()).all())


def _balance(primal: Float[Tensor, " batch"], moved: Float[Tensor, " batch"]) -> Tensor:
    """Return the factor of ρ that evens out ρ ‖P - Z‖ and ρ ‖Z - Z_last‖; 1 where both are 0."""
    tiny = torch.finfo(primal.dtype).tiny
    ratio = (primal / moved.clamp_min(tiny)).sqrt()
    factor = ratio.clamp(1.0 / _LARGEST_FACTOR, _LARGEST_FACTOR)
    return torch.where((primal > 0) | (moved > 0), factor, 1.0)


def _check(name: str, value: float, max_iterations: int) -> None:
    if not value >= 0.0:
        raise ValueError(f"{name} must be >= 0, got {value}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
