"""Whether a model draws random numbers while it trains."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def is_random(model: nn.Module, inputs: Sequence[Tensor]) -> bool:
    """Tell whether two passes in training mode differ: dropout, stochastic depth or the like.

    Args:
        model: left as it is.
        inputs: positional arguments, on the model's device.
    """
    twin = copy.deepcopy(model).train()
    outputs = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            outputs.append(twin(*inputs))
    return not torch.equal(*outputs)
