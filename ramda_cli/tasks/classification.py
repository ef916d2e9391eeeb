"""Telling classes apart: of a whole input, of each token, or the next token itself.

Outputs are logits whose last dimension is the classes. The loss is the mean cross-entropy over the
targets that count; a teacher's part is T² KL(q_T ‖ p_T) at temperature T (Hinton, Vinyals and Dean,
2015, arXiv:1503.02531), where the factor makes up for gradients that shrink with T².
"""

import math
from dataclasses import dataclass

import torch
from sklearn.metrics import f1_score
from torch import Tensor
from torch.nn import functional as F

from ramda_cli.tasks.inputs import ExampleInputs
from ramda_cli.tasks.task import IGNORED, MeanMeter, Meter, Metric, leading

ACCURACY = Metric("top-1 accuracy", "accuracy")
F1 = Metric("F1 of tokens, macro average", "f1")
PERPLEXITY = Metric("perplexity", "perplexity", is_share=False, higher_is_better=False)

_MOST_NATS = 700.0


class AccuracyMeter:
    """Counts how often the largest logit is that of the target."""

    def __init__(self) -> None:
        self._correct = self._total = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in a batch."""
        targets = targets.to(outputs.device)
        counts = targets != IGNORED
        self._correct += int(((outputs.argmax(dim=-1) == targets) & counts).sum())
        self._total += int(counts.sum())

    def value(self) -> float:
        """Return the share that was right."""
        return self._correct / self._total if self._total else math.nan


class F1Meter:
    """Gathers predicted and true classes; the mean over classes of each one's F1 (scikit-learn)."""

    def __init__(self) -> None:
        self._predicted: list[Tensor] = []
        self._true: list[Tensor] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in a batch."""
        targets = targets.to(outputs.device)
        counts = targets != IGNORED
        self._predicted.append(outputs.argmax(dim=-1)[counts].cpu())
        self._true.append(targets[counts].cpu())

    def value(self) -> float:
        """Return the macro average."""
        if not sum(part.numel() for part in self._true):
            return math.nan
        true, predicted = torch.cat(self._true).numpy(), torch.cat(self._predicted).numpy()
        return float(f1_score(true, predicted, average="macro"))


class PerplexityMeter(MeanMeter):
    """Sums cross-entropies; perplexity is the exponential of their mean over all tokens."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in a batch."""
        targets = targets.to(outputs.device)
        flat, aims = outputs.flatten(0, -2).float(), targets.flatten()
        total = F.cross_entropy(flat, aims, ignore_index=IGNORED, reduction="sum")
        self.add(float(total), int((aims != IGNORED).sum()))

    def value(self) -> float:
        """Return the perplexity, or the largest power of e that a float holds."""
        nats = super().value()
        return nats if math.isnan(nats) else math.exp(min(nats, _MOST_NATS))


@dataclass(frozen=True)
class Classification:
    """A task whose outputs are logits over classes.

    Attributes:
        name: of the task.
        metric: what is measured.
        gather: starts a measurement.
    """

    name: str
    metric: Metric
    gather: type[AccuracyMeter | F1Meter | PerplexityMeter]

    def read(self, outputs: object, inputs: ExampleInputs) -> Tensor:
        """Return the logits."""
        return leading(outputs).float()

    def loss(self, outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy; targets are classes, or probabilities of classes."""
        if targets.is_floating_point():
            return F.cross_entropy(outputs, targets, label_smoothing=smoothing)
        flat, aims = outputs.flatten(0, -2), targets.flatten()
        return F.cross_entropy(flat, aims, ignore_index=IGNORED, label_smoothing=smoothing)

    def divergence(
        self, outputs: Tensor, taught: Tensor, targets: Tensor, *, temperature: float
    ) -> Tensor:
        """Return T² KL of the class probabilities at temperature T, mean over what counts."""
        ours = F.log_softmax(outputs / temperature, dim=-1)
        theirs = F.log_softmax(taught / temperature, dim=-1)
        each = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=-1)
        if targets.is_floating_point():
            return temperature**2 * each.mean()
        counts = (targets != IGNORED).to(each.dtype)
        return temperature**2 * (each * counts).sum() / counts.sum().clamp(min=1)

    def meter(self) -> Meter:
        """Start a measurement."""
        return self.gather()


IMAGE_CLASSIFICATION = Classification("image-classification", ACCURACY, AccuracyMeter)
TEXT_CLASSIFICATION = Classification("text-classification", ACCURACY, AccuracyMeter)
TOKEN_CLASSIFICATION = Classification("token-classification", F1, F1Meter)
TEXT_GENERATION = Classification("text-generation", PERPLEXITY, PerplexityMeter)
FILL_MASK = Classification("fill-mask", PERPLEXITY, PerplexityMeter)
TEXT2TEXT_GENERATION = Classification("text2text-generation", PERPLEXITY, PerplexityMeter)

PACKED = (TEXT_GENERATION.name, FILL_MASK.name)
"""Tasks whose texts are joined and cut into blocks."""

GENERATIVE = (*PACKED, TEXT2TEXT_GENERATION.name)
"""Tasks with logits over the vocabulary for every token."""
