"""A task: what of a model's outputs counts, what training minimises, what validation measures."""

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from ramda_cli.tasks.inputs import ExampleInputs, split_inputs, tensors_of

IGNORED = -100
"""Target of a position that counts nowhere: padding, a prompt, a word that was not masked."""


@dataclass(frozen=True)
class Metric:
    """What validation measures.

    Attributes:
        name: for a person.
        hub_id: as the Hugging Face hub calls it.
        is_share: whether it is in [0, 1] and shown in percent.
        higher_is_better: whether more of it is.
    """

    name: str
    hub_id: str
    is_share: bool = True
    higher_is_better: bool = True


class Meter(Protocol):
    """Gathers a metric over batches."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in a batch."""

    def value(self) -> float:
        """Return the metric over all batches so far; NaN where it is not defined."""


class MeanMeter:
    """Sums something over examples; a subclass adds it, and the mean is measured."""

    def __init__(self) -> None:
        self._sum, self._total = 0.0, 0

    def add(self, total: float, count: int) -> None:
        """Take in a sum over so many examples."""
        self._sum += total
        self._total += count

    def value(self) -> float:
        """Return the mean; NaN of nothing."""
        return self._sum / self._total if self._total else math.nan


class Task(Protocol):
    """What a model is for.

    `name` is that of the Hugging Face pipelines. Targets of a position that does not count are
    `IGNORED`, NaN where targets are images or frames. The loss is the mean over what counts, and of
    a part of a batch it weighs as much as `counted` says.
    """

    @property
    def name(self) -> str:
        """As pipelines and the hub call it."""

    @property
    def metric(self) -> Metric:
        """What its meters measure."""

    def read(self, outputs: object, inputs: ExampleInputs) -> Tensor:
        """Return what counts of a model's outputs, which may be a tensor or any tree of them."""

    def loss(self, outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Return the mean loss over what counts; `smoothing` is that of labels."""

    def divergence(
        self, outputs: Tensor, taught: Tensor, targets: Tensor, *, temperature: float
    ) -> Tensor:
        """Return how far the outputs are from those of a teacher, over what counts."""

    def meter(self) -> Meter:
        """Start a measurement."""


def call(task: Task, model: nn.Module, inputs: ExampleInputs) -> Tensor:
    """Run a model and return what counts of its outputs."""
    args, kwargs = split_inputs(inputs)
    return task.read(model(*args, **kwargs), inputs)


def counted(targets: Tensor) -> Tensor:
    """Return how many targets count, a whole number; each mean of a loss is over as many of them.

    Whatever a loss is the mean over, examples, tokens, pixels or frames, has one target each or
    equally many, so that the share of a part is that of its targets.
    """
    there = ~targets.isnan() if targets.is_floating_point() else targets != IGNORED
    return there.sum()


def leading(outputs: object) -> Tensor:
    """Return the first tensor of a model's outputs: transformers' classes put logits first."""
    return tensors_of(outputs)[0]
