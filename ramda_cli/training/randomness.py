"""Whether a model draws random numbers while it trains, and where the generators stand."""

import copy
import random
from typing import Any

import numpy as np
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


def random_state(device: torch.device) -> dict[str, Any]:
    """Return where the generators of Python, NumPy, torch and a CUDA device stand."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),  # type: ignore[union-attr]
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Put the generators where `random_state` found them."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
