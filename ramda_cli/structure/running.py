"""Running a model on example inputs, in a precision of choice."""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ramda_cli.structure.export import evaluation_mode
from ramda_cli.structure.float64 import float64_throughout
from ramda_cli.tasks.inputs import ExampleInputs, split_inputs


def outputs_of(model: nn.Module, batch: ExampleInputs) -> list[Tensor]:
    """Run a model in evaluation mode and return its output tensors in order."""
    args, kwargs = split_inputs(batch)
    with evaluation_mode(model), torch.no_grad():
        outputs = model(*args, **kwargs)
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]


def runner(model: nn.Module, dtype: torch.dtype) -> Callable[[ExampleInputs], list[Tensor]]:
    """Return a function that runs a copy of the model in this precision, float64 throughout."""
    converted = copy.deepcopy(model).to(dtype)
    device = next((p.device for p in converted.parameters()), torch.device("cpu"))

    def run(batch: ExampleInputs) -> list[Tensor]:
        def move(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            return leaf.to(device, dtype) if leaf.is_floating_point() else leaf.to(device)

        with float64_throughout() if dtype == torch.float64 else nullcontext():
            return outputs_of(converted, pytree.tree_map(move, batch))

    return run
