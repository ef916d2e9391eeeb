"""Embedding a sentence: the mean of its tokens' last states, as close as can be to the dense one.

The targets are the dense model's embeddings y. The loss is the mean of 1 - cos(x, y), and what is
measured is the mean cosine.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from ramda_cli.tasks.inputs import ExampleInputs
from ramda_cli.tasks.task import MeanMeter, Meter, Metric, leading

COSINE = Metric("cosine to the dense embeddings", "cosine_similarity", is_share=False)


class CosineMeter(MeanMeter):
    """Sums cosines."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in a batch."""
        targets = targets.to(outputs.device)
        cosines = F.cosine_similarity(outputs.double(), targets.double(), dim=-1)
        self.add(float(cosines.sum()), len(targets))


@dataclass(frozen=True)
class Embedding:
    """Embeddings that are the mean over the tokens that are no padding."""

    name: str = "feature-extraction"
    metric: Metric = COSINE

    def read(self, outputs: object, inputs: ExampleInputs) -> Tensor:
        """Return the mean over tokens of the first output, batch x length x width."""
        states = leading(outputs).float()
        mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
        if mask is None:
            return states.mean(dim=1)
        weights = mask.to(states.dtype).unsqueeze(-1)
        return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)

    def loss(self, outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Return the mean of 1 - cosine."""
        return (1 - F.cosine_similarity(outputs, targets, dim=-1)).mean()

    def divergence(
        self, outputs: Tensor, taught: Tensor, targets: Tensor, *, temperature: float
    ) -> Tensor:
        """Return the mean of 1 - cosine to the teacher's."""
        return self.loss(outputs, taught)

    def meter(self) -> Meter:
        """Start a measurement."""
        return CosineMeter()


EMBEDDING = Embedding()
