"""Whether a model has learned its task, and so has something to teach a smaller one."""

from itertools import islice

import torch
from torch import nn

from ramda_cli.data.bundle import Batches
from ramda_cli.structure.export import evaluation_mode
from ramda_cli.tasks import EMBEDDING, LANGUAGE_MODELING, REGRESSION, TEXT_TO_SPEECH, Task, call
from ramda_cli.tasks.inputs import moved

_BATCHES = 4
_LEARNED = 0.9


@torch.no_grad()
def can_teach(model: nn.Module, task: Task, batches: Batches, *, device: torch.device) -> bool:
    """Tell whether a model's loss is well below that of giving every class the same.

    Images that are painted in one colour, the mean, are what every class the same is there.

    It is not where weights are random, or the classes are others than those it was trained on.

    Args:
        model: on `device`.
        task: one without classes has no such measure, one with a memory no teacher, and the answer
            is no.
        batches: of validation; the first four are used.
        device: of the model.
    """
    if task in (REGRESSION, EMBEDDING, LANGUAGE_MODELING, TEXT_TO_SPEECH):
        return False
    own = equal = 0.0
    with evaluation_mode(model):
        for inputs, targets in islice(batches, _BATCHES):
            there = targets.to(device)
            outputs = call(task, model, moved(inputs, device)).float()
            own += float(task.loss(outputs, there))
            equal += float(task.loss(torch.zeros_like(outputs), there))
    return own < _LEARNED * equal
