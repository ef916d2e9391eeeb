"""How a loaded model is called."""

from collections.abc import Mapping

from torch import nn

from ramda_cli.structure.export import ExampleInputs
from ramda_cli.surgery import GraphModel


def in_order(model: nn.Module, inputs: ExampleInputs) -> ExampleInputs:
    """Return a graph's keyword inputs by position, and any other inputs as they are.

    A graph takes both, but torch.export frees the batch of `**kwargs` only to fail on it.
    """
    if isinstance(model, GraphModel) and isinstance(inputs, Mapping):
        return tuple(inputs[name] for name in model.program.keywords if name in inputs)
    return inputs
