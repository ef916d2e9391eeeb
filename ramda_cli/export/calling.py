"""How a loaded model is called."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ramda_cli.surgery import GraphModel
from ramda_cli.tasks.inputs import ExampleInputs


def in_order(model: nn.Module, inputs: ExampleInputs) -> ExampleInputs:
    """Return a graph's keyword inputs by position, and any other inputs as they are.

    A graph takes both, but torch.export frees the batch of `**kwargs` only to fail on it.
    """
    if isinstance(model, GraphModel) and isinstance(inputs, Mapping):
        return tuple(inputs[name] for name in model.program.keywords if name in inputs)
    return inputs


def in_float32(inputs: ExampleInputs) -> ExampleInputs:
    """Return the inputs of an export: on the CPU, floating ones in fp32."""

    def convert(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        moved = leaf.detach().cpu()
        return moved.float() if moved.is_floating_point() else moved

    return pytree.tree_map(convert, dict(inputs) if isinstance(inputs, Mapping) else inputs)
