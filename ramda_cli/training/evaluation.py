"""The metric of a task on validation data."""

import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ramda_cli.data.bundle import Batches
from ramda_cli.structure.export import evaluation_mode
from ramda_cli.tasks import Carried, Task
from ramda_cli.tasks.inputs import ExampleInputs, batch_size, moved, rows_of, split_inputs
from ramda_cli.training.memory import free_memory, is_out_of_memory


@torch.no_grad()
def evaluate(model: nn.Module, task: Task, batches: Batches, *, device: torch.device) -> float:
    """Return the task's metric, in evaluation mode and the model's own precision.

    A batch that does not fit into memory is computed in parts, with the padding of the whole: no
    example's result depends on the others but by that.
    """

    def run(inputs: ExampleInputs) -> object:
        args, kwargs = split_inputs(moved(inputs, device))
        return model(*args, **kwargs)

    with evaluation_mode(model):
        return evaluate_outputs(run, task, batches)


def evaluate_outputs(run: Callable[[ExampleInputs], object], task: Task, batches: Batches) -> float:
    """Return the task's metric of any function from inputs to a model's outputs."""
    meter, carried = task.meter(), Carried(task)
    most = sys.maxsize
    for inputs, targets in batches:
        left = [(inputs, targets)]
        while left:
            some = left.pop(0)
            size = batch_size(some[0])
            if size <= most:
                try:
                    outputs = run(carried.into(some[0]))
                    meter.update(task.read(outputs, some[0]), some[1])
                    carried.keep(outputs)
                    continue
                except (MemoryError, RuntimeError) as error:
                    if size == 1 or carried.carries or not is_out_of_memory(error):
                        raise
                    most = size // 2
                free_memory()
            left[:0] = _halves(*some)
    return meter.value()


def _halves(inputs: ExampleInputs, targets: Tensor) -> list[tuple[ExampleInputs, Tensor]]:
    half = (batch_size(inputs) + 1) // 2
    return [(rows_of(inputs, rows), targets[rows]) for rows in (slice(half), slice(half, None))]
