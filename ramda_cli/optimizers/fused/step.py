"""One RAMDA step in two passes over memory.

The first pass adds the gradients to their sums, and evaluates the secular equation at L/r of the
last step. Between the passes the zero set is decided and the root refined. The second pass averages
the solution into the iterates and measures how well the root was met. Channels where that is not
well enough, which after the first steps are few, are corrected.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ramda_cli.optimizers.active import ActivePenalties, Solutions
from ramda_cli.optimizers.fused.operands import Kernels, Operand, Settings
from ramda_cli.optimizers.fused.roots import Secular
from ramda_cli.optimizers.thresholds import ThresholdRule, ZeroTest

# Where to look for the root of a channel that was zero, in units of 1/d: for ‖w‖ some 10 % above L.
REVIVED = 10.0


def take_step(
    kernels: Kernels,
    operands: Sequence[Operand],
    gradients: Sequence[Tensor],
    settings: Sequence[Settings],
    *,
    active: ActivePenalties,
    scale: float | Tensor,
    growth: float | Tensor,
    rule: ThresholdRule,
    last: Solutions,
) -> tuple[Solutions, Float[Tensor, ""]]:
    """Update all operands in place, and return the channels' solutions and the certificate.

    Args:
        kernels: of the operands' device, for tiles of the operands.
        operands: in the order of the tiles; the same object as long as its tensors are the same.
        gradients: of the operands.
        settings: of each param_group.
        active: the penalties, none of them idle.
        scale: α.
        growth: α over that of the step before.
        rule: decides zero set and shrinkage.
        last: of the previous step.
    """
    kernels.bind(operands, gradients, settings)
    guess = torch.where(torch.isfinite(last.ratios), last.ratios * growth, 0.0)
    sums = kernels.accumulate(guess)
    norm = sums[0].sqrt()
    crit = (norm / active.sizes.sqrt()).to(active.sizes.dtype)
    threshold = rule(ZeroTest(crit, active.sizes, last.norms == 0, scale, lambda: _change(kernels)))
    shrinkage = threshold.shrinkage.double()
    zero = threshold.zero | (norm <= shrinkage)
    problem = Secular(sums[0], sums[1], shrinkage, zero)
    ratios = kernels.first_ratios(problem, guess, sums[2:])
    sums = kernels.write(ratios)
    for _ in range(kernels.max_corrections):
        better = kernels.better_ratios(problem, ratios, sums)
        if kernels.host_may_ask and torch.equal(better, ratios):
            break
        sums, ratios = kernels.correct(ratios, better), better
    tiny = torch.finfo(last.norms.dtype).tiny
    norms = problem.norms(ratios, sums[0]).to(last.norms.dtype).clamp_min(tiny)
    certificate = torch.linalg.vector_norm(shrinkage * problem.excess(ratios, sums[0])).float()
    # A zero channel will come back small, if at all: L/r is then several times its mean d.
    revived = (REVIVED * problem.curvature / problem.square).to(ratios.dtype)
    guesses = torch.where(zero, revived, ratios)
    return Solutions(torch.where(zero, 0.0, norms), guesses), certificate


def _change(kernels: Kernels) -> Float[Tensor, " channels"]:
    return kernels.multiply().float()
