"""Predicting the next word with a memory of what was read, which each call hands to the next.

Such a model takes a keyword input `memory` and returns its prediction and the next memory. Batches
follow each other: example i of a batch is read on where example i of the batch before ended.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ramda_cli.tasks.classification import PERPLEXITY, PerplexityMeter
from ramda_cli.tasks.inputs import ExampleInputs, in_parts, tensors_of
from ramda_cli.tasks.task import IGNORED, Meter, Metric, Task, leading

_MEMORY, _TARGETS = "memory", "targets"
_AT_ONCE = 2
"""Examples, where there are log probabilities of all words, which are many."""


class LogLikelihoodMeter(PerplexityMeter):
    """Sums log probabilities of targets, in place of logits."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in a batch."""
        counts = targets.to(outputs.device) != IGNORED
        self.add(-float(outputs.double()[counts].sum()), int(counts.sum()))


@dataclass(frozen=True)
class LanguageModeling:
    """Outputs are the log probabilities of the targets, which the model is given too."""

    name: str = "language-modeling"
    metric: Metric = PERPLEXITY

    def read(self, outputs: object, inputs: ExampleInputs) -> Tensor:
        """Return the log probabilities, batch x length."""
        return leading(outputs).float()

    def loss(self, outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Return the mean negative log probability over what counts; there is no smoothing."""
        counts = (targets != IGNORED).to(outputs.dtype)
        return -(outputs * counts).sum() / counts.sum().clamp(min=1)

    def divergence(
        self, outputs: Tensor, taught: Tensor, targets: Tensor, *, temperature: float
    ) -> Tensor:
        """Raise: of the other words nothing is known."""
        raise NotImplementedError("a model with a memory learns from no teacher")

    def meter(self) -> Meter:
        """Start a measurement."""
        return LogLikelihoodMeter()


LANGUAGE_MODELING = LanguageModeling()


class Carried:
    """What the batch before left for the next one.

    Args:
        task: of the model; where it has no memory nothing is carried.

    Attributes:
        carries: whether it has one.
        memory: what was left, None where a text begins.
    """

    def __init__(self, task: Task) -> None:
        self.carries = is_recurrent(task)
        self.memory: Tensor | None = None

    def into(self, inputs: ExampleInputs) -> ExampleInputs:
        """Return the inputs with what was left in place of their own empty memory."""
        if self.memory is None or not isinstance(inputs, Mapping):
            return inputs
        return {**inputs, _MEMORY: self.memory}

    def keep(self, outputs: object) -> None:
        """Keep what a batch leaves; nothing where it is not finite."""
        if self.carries:
            memory = tensors_of(outputs)[1].detach()
            self.memory = memory if bool(torch.isfinite(memory).all()) else None

    def forget(self) -> None:
        """Begin with an empty memory."""
        self.memory = None


def without_targets(batches: Sequence[ExampleInputs]) -> list[ExampleInputs]:
    """Return few examples at a time, as where nothing is known of what comes next.

    Inputs that have no targets are returned as they are.
    """
    given: list[ExampleInputs] = []
    for batch in batches:
        if isinstance(batch, Mapping) and {_MEMORY, _TARGETS} <= batch.keys():
            rest = {name: value for name, value in batch.items() if name != _TARGETS}
            given += in_parts(rest, _AT_ONCE)
        else:
            given.append(batch)
    return given


def of_targets(
    run: Callable[[ExampleInputs], Sequence[Tensor]],
) -> Callable[[ExampleInputs], Sequence[Tensor]]:
    """Return what gives log probabilities of the targets, from what gives those of all words.

    Inputs that have no targets are run as they are.
    """

    def on(inputs: ExampleInputs) -> Sequence[Tensor]:
        if not (isinstance(inputs, Mapping) and {_MEMORY, _TARGETS} <= inputs.keys()):
            return run(inputs)
        aims = inputs[_TARGETS].clamp_min(0).split(_AT_ONCE)
        parts = []
        for few, own in zip(without_targets([inputs]), aims, strict=True):
            every, memory = run(few)
            parts.append((every.gather(2, own[..., None])[..., 0], memory))
        return [torch.cat(each) for each in zip(*parts, strict=True)]

    return on


def is_recurrent(task: Task) -> bool:
    """Tell whether batches of a task follow each other."""
    return isinstance(task, LanguageModeling)
