"""Predicting a number for each input: mean squared error, and Spearman's rank correlation."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional as F

from ramda_cli.tasks.inputs import ExampleInputs
from ramda_cli.tasks.task import Meter, Metric, leading

SPEARMAN = Metric("Spearman's rank correlation", "spearmanr", is_share=False)


class SpearmanMeter:
    """Gathers predictions and targets."""

    def __init__(self) -> None:
        self._predicted: list[Tensor] = []
        self._true: list[Tensor] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in a batch."""
        self._predicted.append(outputs.detach().double().cpu())
        self._true.append(targets.detach().double().cpu())

    def value(self) -> float:
        """Return the correlation (scipy), 0 where one side is constant."""
        predicted, true = torch.cat(self._predicted).numpy(), torch.cat(self._true).numpy()
        if np.ptp(predicted) == 0 or np.ptp(true) == 0:
            return 0.0
        return float(spearmanr(predicted, true).statistic)


@dataclass(frozen=True)
class Regression:
    """One number per input; it is a text classification with one class, and none to tell apart."""

    name: str = "text-classification"
    metric: Metric = SPEARMAN

    def read(self, outputs: object, inputs: ExampleInputs) -> Tensor:
        """Return one number per input."""
        return leading(outputs).float().squeeze(-1)

    def loss(self, outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Return the mean squared error; there are no labels to smooth."""
        return F.mse_loss(outputs, targets)

    def divergence(
        self, outputs: Tensor, taught: Tensor, targets: Tensor, *, temperature: float
    ) -> Tensor:
        """Return the mean squared difference from the teacher's numbers."""
        return F.mse_loss(outputs, taught)

    def meter(self) -> Meter:
        """Start a measurement."""
        return SpearmanMeter()


REGRESSION = Regression()
