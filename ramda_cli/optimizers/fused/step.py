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

# |1 - √φ| above this is corrected; the certificate relative to L.
TOLERANCE = 1e-6
MAX_CORRECTIONS = 12


def take_step(
    kernels: Kernels,
    operands: Sequence[Operand],
    settings: Sequence[Settings],
    *,
    active: ActivePenalties,
    scale: float,
    growth: float,
    rule: ThresholdRule,
    last: Solutions,
) -> tuple[Solutions, Float[Tensor, ""]]:
    """Update all operands in place, and return the channels' solutions and the certificate.

    Args:
        kernels: of the operands' device, for tiles of the operands.
        operands: in the order of the tiles.
        settings: of each param_group.
        active: the penalties, none of them idle.
        scale: α.
        growth: α over that of the step before.
        rule: decides zero set and shrinkage.
        last: of the previous step.
    """
    kernels.bind(operands, settings)
    guess = torch.where(torch.isfinite(last.ratios), last.ratios * growth, 0.0)
    square, curvature, solution, slope = kernels.accumulate(guess)
    norm = square.sqrt()
    crit = (norm / active.sizes.sqrt()).to(active.sizes.dtype)
    threshold = rule(ZeroTest(crit, active.sizes, last.norms == 0, scale, lambda: _change(kernels)))
    shrinkage = threshold.shrinkage.double()
    problem = Secular(square, curvature, shrinkage, threshold.zero | (norm <= shrinkage))
    ratios = problem.ratios(problem.interpolated(guess.double(), solution, slope))
    solution, slope = kernels.write(ratios)
    for _ in range(MAX_CORRECTIONS):
        r = torch.where(shrinkage == 0, solution.sqrt(), shrinkage / ratios)
        excess = torch.where(problem.zero, 0.0, solution.sqrt() / r - 1.0)
        wrong = excess.abs() > TOLERANCE
        if not bool(wrong.any()):
            break
        better = problem.ratios(torch.where(wrong, problem.newton(r, solution, slope), r))
        better = torch.where(wrong, better, ratios)
        solution, slope = kernels.correct(ratios, better)
        ratios = better
    tiny = torch.finfo(last.norms.dtype).tiny
    norms = torch.where(problem.zero, 0.0, r.to(last.norms.dtype).clamp_min(tiny))
    return Solutions(norms, ratios), torch.linalg.vector_norm(shrinkage * excess).float()


def _change(kernels: Kernels) -> Float[Tensor, " channels"]:
    return kernels.multiply().float()
