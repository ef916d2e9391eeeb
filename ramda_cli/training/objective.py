"""What training minimises: the task's loss, and how far the outputs are from the dense model's.

    (1 - w) loss(outputs, targets) + w divergence(outputs, dense outputs)

With w = 0 there is no dense model.
"""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.tasks import IMAGE_CLASSIFICATION, Carried, Task, call
from ramda_cli.tasks.inputs import ExampleInputs, split_inputs


class Objective:
    """The loss of a batch.

    Args:
        model: as it is before training; with distillation a copy of it teaches.
        config: weights of the parts; without one for the dense model there is none.
        task: whose loss.
        teacher: what teaches in place of a copy.

    Attributes:
        carried: what a recurrent model hands from batch to batch.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        task: Task = IMAGE_CLASSIFICATION,
        *,
        teacher: nn.Module | None = None,
    ) -> None:
        self._config = config
        self._weight = config.distill or 0.0
        self._task = task
        self.carried = Carried(task)
        self._teacher: nn.Module | None = None
        if self._weight > 0:
            self._teacher = teacher or copy.deepcopy(model).eval().requires_grad_(False)

    def __call__(
        self, model: nn.Module, inputs: ExampleInputs, targets: Tensor
    ) -> Float[Tensor, ""]:
        """Return the mean loss over a batch; targets are the task's, or soft ones of a mixture."""
        config = self._config
        args, kwargs = split_inputs(self.carried.into(inputs))
        whole = model(*args, **kwargs)
        self.carried.keep(whole)
        outputs = self._task.read(whole, inputs)
        loss = self._task.loss(outputs, targets, smoothing=config.label_smoothing)
        if self._teacher is None:
            return loss
        with torch.no_grad():
            taught = call(self._task, self._teacher, inputs)
        divergence = self._task.divergence(outputs, taught, targets, temperature=config.temperature)
        return (1 - self._weight) * loss + self._weight * divergence
