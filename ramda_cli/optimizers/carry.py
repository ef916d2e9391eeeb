"""Taking an optimizer's state from a model to the smaller one that was cut out of it."""

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from ramda_cli.optimizers.low_rank import OF_MATRICES
from ramda_cli.optimizers.proximal import OF_CHANNELS, ProximalOptimizer
from ramda_cli.optimizers.shards import local, part_here, whole

Kept = Mapping[str, Mapping[int, Sequence[Sequence[int]]]]
"""For each tensor that shrank, half-open intervals of kept positions along each dimension."""

_LIKE_WEIGHTS = {"anchor", "master"}
"""State in the units of the weights, which follows them where a removal has rescaled some."""


@torch.no_grad()
def carry_state_(smaller: ProximalOptimizer, dense: ProximalOptimizer, kept: Kept) -> None:
    """Give the smaller model's optimizer the state that the dense model's has, in place.

    The settings and counters of the param_groups go over as they are, and every tensor of a
    parameter's state is sliced as the parameter was: what follows are the steps that the dense
    model would have taken with the removed channels held at zero.

    Args:
        smaller: an optimizer of the same class over parameters of the same names.
        dense: the one that has taken steps.
        kept: of the removal plan.
    """
    for group, source in zip(smaller.param_groups, dense.param_groups, strict=True):
        for key, value in source.items():
            if key not in ("params", "param_names"):
                group[key] = value.clone() if isinstance(value, Tensor) else value
    before = _named(dense)
    for name, parameter in _named(smaller).items():
        if name not in before:
            continue
        old, ranges = before[name], kept.get(name, {})
        here = local(parameter)
        sliced = part_here(_slice(whole(old.detach(), old), ranges), parameter).to(here.device)
        # In one order: processes that hold rows of them bring them together.
        for key in sorted(dense.state[old].keys() - OF_CHANNELS - OF_MATRICES):
            part = _slice(whole(dense.state[old][key], old), ranges)
            part = part_here(part, parameter).to(here.device)
            if key in _LIKE_WEIGHTS:
                part = _rescaled(part, sliced, here)
            laid_out = torch.empty_like(here, dtype=part.dtype)
            smaller.state[parameter][key] = laid_out.copy_(part)


def _named(optimizer: ProximalOptimizer) -> dict[str, Tensor]:
    pairs = (zip(g["param_names"], g["params"], strict=True) for g in optimizer.param_groups)
    return dict(chain.from_iterable(pairs))


def _slice(tensor: Tensor, ranges: Mapping[int, Sequence[Sequence[int]]]) -> Tensor:
    for dim, intervals in ranges.items():
        positions = np.concatenate([np.arange(start, stop) for start, stop in intervals])
        tensor = tensor.index_select(dim, torch.from_numpy(positions).to(tensor.device))
    return tensor


def _rescaled(part: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Scale as the weights were, where they were: a norm's gain, when its width shrinks."""
    if torch.equal(before, after):
        return part
    return part * torch.where(before != 0, after / before, 1.0).to(part.dtype)
