"""The secular equation between two passes over memory, from what one pass summed.

A pass that evaluates p = w/(d + q) at some q, Σ p² and Σ p² d/(d + q), has evaluated φ and its
derivative at r = L/q, whatever L turns out to be. With f(r) = φ(r)^(-1/2) - 1, concave and
increasing (see `ramda_cli.subproblem.secular`),

    f(0) = L/‖w‖ - 1,  f'(0) = Σ w² d / ‖w‖³,   f(r) = r/‖p‖ - 1,  f'(r) = Σ p² d/(d + q) / ‖p‖³.

Cubic interpolation of the inverse of f between 0 and r gives the root to 1e-7 once steps have
become small. It is kept at or above the Newton steps from both ends, which are lower bounds.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# |1 - √φ| above this is corrected: the certificate over L.
TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Secular:
    """The equation of each channel, in double.

    Attributes:
        square: ‖w‖².
        curvature: Σ w² d.
        shrinkage: L.
        zero: channels whose solution is zero.
    """

    square: Float[Tensor, " channels"]
    curvature: Float[Tensor, " channels"]
    shrinkage: Float[Tensor, " channels"]
    zero: Bool[Tensor, " channels"]

    @property
    def lower(self) -> Float[Tensor, " channels"]:
        """The Newton step from r = 0."""
        tiny = torch.finfo(self.square.dtype).tiny
        gap = self.square.sqrt() - self.shrinkage
        return gap * (self.square / self.curvature.clamp_min(tiny))

    def interpolated(
        self,
        ratios: Float[Tensor, " channels"],
        solution: Float[Tensor, " channels"],
        slope: Float[Tensor, " channels"],
    ) -> Float[Tensor, " channels"]:
        """Return the root as seen from 0 and from L/`ratios`; only from 0 where that is not known.

        Args:
            ratios: q at which the sums were taken, 0 where no good one was known.
            solution: Σ p².
            slope: Σ p² d/(d + q).
        """
        norm = self.square.sqrt()
        at_zero, guess = self.shrinkage / norm - 1.0, self.shrinkage / ratios
        norm_cubed, p_cubed = self.square * norm, solution * solution.sqrt()
        there = guess / solution.sqrt() - 1.0
        newton = guess - there * p_cubed / slope
        span = there - at_zero
        t = -at_zero / span
        cubic = (
            (t**3 - 2 * t**2 + t) * span * norm_cubed / self.curvature
            + (3 * t**2 - 2 * t**3) * guess
            + (t**3 - t**2) * span * p_cubed / slope
        )
        # f is concave: right of the root the chord from 0 is an upper bound too.
        bound = torch.where(there > 0, torch.minimum(guess, t * guess), torch.inf)
        cubic = torch.minimum(cubic, bound)
        # Far from the root nothing bounds the cubic.
        near = (there.abs() < 0.5) & torch.isfinite(cubic)
        return self._at_least_lower(torch.where(near, torch.maximum(cubic, newton), newton))

    def newton(
        self,
        r: Float[Tensor, " channels"],
        solution: Float[Tensor, " channels"],
        slope: Float[Tensor, " channels"],
    ) -> Float[Tensor, " channels"]:
        """Return the next iterate of Newton's method on f."""
        norm = solution.sqrt()
        return self._at_least_lower(r - (r / norm - 1.0) * solution * norm / slope)

    def first_ratios(
        self, guess: Float[Tensor, " channels"], sums: Float[Tensor, "4 channels"]
    ) -> Float[Tensor, " channels"]:
        """Return L/r between the first two passes.

        Args:
            guess: L/r at which the first pass took its sums.
            sums: what it took, of which the last two count.
        """
        return self._ratios(self.interpolated(guess.double(), sums[2], sums[3]))

    def better_ratios(
        self, ratios: Float[Tensor, " channels"], sums: Float[Tensor, "2 channels"]
    ) -> Float[Tensor, " channels"]:
        """Return L/r after one more step of Newton's method where that is called for.

        Args:
            ratios: L/r at which the sums were taken.
            sums: Σ p² and Σ p² d/(d + L/r).
        """
        solution, slope = sums
        wrong = self.excess(ratios, solution).abs() > TOLERANCE
        newton = self._ratios(self.newton(self.norms(ratios, solution), solution, slope))
        return torch.where(wrong | self.zero, newton, ratios)

    def excess(
        self, ratios: Float[Tensor, " channels"], solution: Float[Tensor, " channels"]
    ) -> Float[Tensor, " channels"]:
        """Return √φ - 1, 0 where the channel is zero: the certificate over L."""
        met = solution.sqrt() / self.norms(ratios, solution) - 1.0
        return torch.where(self.zero, 0.0, met)

    def norms(
        self, ratios: Float[Tensor, " channels"], solution: Float[Tensor, " channels"]
    ) -> Float[Tensor, " channels"]:
        """Return r from L/r; without shrinkage p does not depend on it, and its norm is r."""
        return torch.where(self.shrinkage == 0, solution.sqrt(), self.shrinkage / ratios)

    def _at_least_lower(self, r: Float[Tensor, " channels"]) -> Float[Tensor, " channels"]:
        lower = self.lower
        return torch.where(torch.isfinite(r), torch.maximum(r, lower), lower)

    def _ratios(self, r: Float[Tensor, " channels"]) -> Float[Tensor, " channels"]:
        """Return L/r, infinite where the channel is zero, rounded to what kernels are given."""
        ratios = torch.where(self.shrinkage == 0, 0.0, self.shrinkage / r)
        return torch.where(self.zero, torch.inf, ratios).float()
