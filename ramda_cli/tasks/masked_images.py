"""Painting what of an image is hidden (SimMIM, Xie et al., CVPR 2022, arXiv:2111.09886).

Outputs are images x and targets images y, N x C x H x W, where y is NaN at every pixel that the
model has seen: what `IGNORED` is among whole numbers. With H the pixels where y is a number the
loss is mean_H |x - y|, what is measured is the same, and a teacher's part is mean_H |x - x_T|.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ramda_cli.tasks.inputs import ExampleInputs, tensors_of
from ramda_cli.tasks.task import MeanMeter, Meter, Metric

L1_ERROR = Metric("L1 error of the hidden pixels", "mae", is_share=False, higher_is_better=False)

_IMAGE_DIMENSIONS = 4


class L1Meter(MeanMeter):
    """Sums absolute errors of hidden pixels."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in a batch."""
        targets = targets.to(outputs.device)
        hidden = _hidden(targets)
        total = float(_errors(outputs.double(), targets.double(), hidden).sum())
        self.add(total, int(hidden.sum()))


@dataclass(frozen=True)
class MaskedImageModeling:
    """Images of which a part is hidden, painted whole."""

    name: str = "masked-image-modeling"
    metric: Metric = L1_ERROR

    def read(self, outputs: object, inputs: ExampleInputs) -> Tensor:
        """Return the painted images: the first output that is a batch of images.

        The classes of transformers put a loss of their own before it.
        """
        return next(t for t in tensors_of(outputs) if t.ndim == _IMAGE_DIMENSIONS).float()

    def loss(self, outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Return the mean absolute error of the hidden pixels; there are no labels to smooth."""
        hidden = _hidden(targets)
        return _errors(outputs, targets, hidden).sum() / hidden.sum().clamp(min=1)

    def divergence(
        self, outputs: Tensor, taught: Tensor, targets: Tensor, *, temperature: float
    ) -> Tensor:
        """Return the mean absolute difference from the teacher's hidden pixels."""
        hidden = _hidden(targets)
        return _errors(outputs, taught, hidden).sum() / hidden.sum().clamp(min=1)

    def meter(self) -> Meter:
        """Start a measurement."""
        return L1Meter()


def _hidden(targets: Tensor) -> Tensor:
    return ~targets.isnan()


def _errors(outputs: Tensor, aims: Tensor, hidden: Tensor) -> Tensor:
    # Chosen before the difference is taken: a NaN that is left out afterwards has a NaN gradient.
    return (outputs - torch.where(hidden, aims, outputs.detach())).abs()


MASKED_IMAGE_MODELING = MaskedImageModeling()
