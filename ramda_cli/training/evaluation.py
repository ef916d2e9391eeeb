"""The metric of a task on validation data."""

from collections.abc import Callable

import torch
from torch import nn

from ramda_cli.data.bundle import Batches
from ramda_cli.structure.export import evaluation_mode
from ramda_cli.tasks import Task
from ramda_cli.tasks.inputs import ExampleInputs, moved, split_inputs


@torch.no_grad()
def evaluate(model: nn.Module, task: Task, batches: Batches, *, device: torch.device) -> float:
    """Return the task's metric, in evaluation mode and the model's own precision."""

    def run(inputs: ExampleInputs) -> object:
        args, kwargs = split_inputs(moved(inputs, device))
        return model(*args, **kwargs)

    with evaluation_mode(model):
        return evaluate_outputs(run, task, batches)


def evaluate_outputs(run: Callable[[ExampleInputs], object], task: Task, batches: Batches) -> float:
    """Return the task's metric of any function from inputs to a model's outputs."""
    meter = task.meter()
    for inputs, targets in batches:
        meter.update(task.read(run(inputs), inputs), targets)
    return meter.value()
