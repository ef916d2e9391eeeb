"""Whether a model draws random numbers while it trains."""

import copy

import torch
from torch import nn

from ramda_cli.tasks.inputs import ExampleInputs, split_inputs, tensors_of


@torch.no_grad()
def is_random(model: nn.Module, inputs: ExampleInputs) -> bool:
    """Tell whether two passes in training mode differ: dropout, stochastic depth or the like.

    Args:
        model: left as it is.
        inputs: on the model's device.
    """
    twin = copy.deepcopy(model).train()
    args, kwargs = split_inputs(inputs)
    outputs = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            outputs.append(tensors_of(twin(*args, **kwargs)))
    return not all(map(torch.equal, *outputs))
