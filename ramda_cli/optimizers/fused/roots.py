"""The secular equation between two passes over memory, from what one pass summed.

A pass that evaluates p = w/(d + q) and t = d/(d + q) at some q, and sums p², p² t and p² t², has
evaluated φ and two derivatives at r = L/q, whatever L turns out to be. With f(r) = φ(r)^(-1/2) - 1,
concave and increasing (see `ramda_cli.subproblem.secular`), and P = Σ p², S = Σ p² t, B = Σ p² t²,

    f(0) = L/‖w‖ - 1,  f'(0) = Σ w² d / ‖w‖³
    f(r) = r/√P - 1,   f'(r) = S / P^(3/2),   f''(r) = 3 (S²/P - B) / (r P^(3/2)).

The inverse of f is interpolated by the quartic that has these values and derivatives at both ends,
which is right to 1e-7 once steps have become small. The result is kept at or above the Newton steps
from both ends, which are lower bounds.
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
        self, ratios: Float[Tensor, " channels"], sums: Float[Tensor, "3 channels"]
    ) -> Float[Tensor, " channels"]:
        """Return the root as seen from 0 and from L/`ratios`; only from 0 where that is not known.

        Args:
            ratios: q at which the sums were taken, 0 where no good one was known.
            sums: Σ p², Σ p² t and Σ p² t².
        """
        solution, slope, bend = sums
        norm, p_norm = self.square.sqrt(), solution.sqrt()
        low, right = self.shrinkage / norm - 1.0, self.shrinkage / ratios
        high = right / p_norm - 1.0
        # The inverse of f and its derivatives: at `low`, where it is 0, and at `high`.
        first = self.square * norm / self.curvature
        last = solution * p_norm / slope
        second = 1.5 * (bend - slope.square() / solution) / (right * solution * p_norm) * last**3
        newton = right - high * last
        span = high - low
        chord = right / span
        from_low, from_high = (chord - first) / span, (last - chord) / span
        third = (second - from_high) / span
        fourth = (third - (from_high - from_low) / span) / span
        quartic = newton + high**2 * (second - high * (third - low * fourth))
        # f is concave: right of the root the chord from 0 is an upper bound too.
        bound = torch.where(high > 0, torch.minimum(right, -low * chord), torch.inf)
        quartic = torch.minimum(quartic, bound)
        # Far from the root nothing bounds the quartic.
        near = (high.abs() < 0.5) & torch.isfinite(quartic)
        return self._at_least_lower(torch.where(near, torch.maximum(quartic, newton), newton))

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
        self, guess: Float[Tensor, " channels"], sums: Float[Tensor, "3 channels"]
    ) -> Float[Tensor, " channels"]:
        """Return L/r between the first two passes.

        Args:
            guess: L/r at which the first pass took its sums.
            sums: Σ p², Σ p² t and Σ p² t² at these.
        """
        return self._ratios(self.interpolated(guess.double(), sums))

    def better_ratios(
        self, ratios: Float[Tensor, " channels"], sums: Float[Tensor, "2 channels"]
    ) -> Float[Tensor, " channels"]:
        """Return L/r after one more step of Newton's method where that is called for.

        Args:
            ratios: L/r at which the sums were taken.
            sums: Σ p² and Σ p² t at these.
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
