"""Which channels are zero in a step, and by how much the others are shrunk.

A channel with w = D x₀ - v over its n penalized entries is zero in the exact solution iff its
shrinkage L >= ‖w‖. With L = Λ √n that is Λ >= crit = ‖w‖ / √n, so a rule may fix Λ = α λ, as the
paper does, or take Λ at a quantile of crit and decide how many channels are zero.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from ramda_cli.regularizers import firm_shrinkage


@dataclass(frozen=True, eq=False)
class ZeroTest:
    """What a rule sees: all channels of all penalties, one penalty after the other.

    Attributes:
        crit: ‖w‖ / √size; the channel is zero iff Λ >= crit. Infinite where some parameter of the
            channel has no gradient in this step: such a channel is left as it is.
        size: n, penalized entries of the channel.
        was_zero: whether the last solution was zero there.
        scale: α, the sum of step sizes; a tensor where it is kept on the device.
        change: computes ⟨g, x⟩ over each channel's penalized entries: to first order, what the
            loss of this step's batch would fall by if the channel were zero. It costs a pass over
            gradients and weights, which rules that do not call it are spared.
    """

    crit: Float[Tensor, " channels"]
    size: Float[Tensor, " channels"]
    was_zero: Bool[Tensor, " channels"]
    scale: float | Tensor
    change: Callable[[], Float[Tensor, " channels"]]


@dataclass(frozen=True, eq=False)
class Threshold:
    """What a rule decides.

    Attributes:
        zero: channels whose solution is to be zero.
        shrinkage: L >= 0 of the others, below ‖w‖ = crit √size; a channel with more is zero too.
    """

    zero: Bool[Tensor, " channels"]
    shrinkage: Float[Tensor, " channels"]


class ThresholdRule(Protocol):
    """Decides the threshold of one step; should not read values back from the device.

    A rule that has `state_dict` and `load_state_dict` is saved with its optimizer.
    """

    def __call__(self, test: ZeroTest) -> Threshold:
        """Return the zero set and the shrinkage of the other channels."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """A rule that remembers something from step to step."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


@dataclass(frozen=True, eq=False)
class FixedWeights:
    """The paper's rule: L = α λ √size, less under group MCP where ‖w‖ is larger.

    Attributes:
        weights: λ of each channel.
        gammas: γ of each channel; infinite for group lasso.
    """

    weights: Float[Tensor, " channels"]
    gammas: Float[Tensor, " channels"] | float = math.inf

    def __call__(self, test: ZeroTest) -> Threshold:
        """Return the solution's own zero set."""
        level = self.weights * test.scale
        shrinkage = firm_shrinkage(test.crit, level, self.gammas)
        return Threshold(test.crit <= level, shrinkage * test.size.sqrt())
