"""What training minimises: the cross-entropy, and how far the outputs are from the dense model's.

    (1 - w) CE(y, p) + w T² KL(q_T ‖ p_T)

where p_T and q_T are the model's and the dense model's class probabilities at temperature T
(Hinton, Vinyals and Dean, 2015, arXiv:1503.02531). With w = 0 there is no dense model.
"""

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ramda_cli.config.schema import TrainingConfig


class Objective:
    """The loss of a batch.

    Args:
        model: as it is before training; with distillation a copy of it teaches.
        config: weights of the parts.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig) -> None:
        self._config = config
        self._teacher: nn.Module | None = None
        if config.distill > 0:
            self._teacher = copy.deepcopy(model).eval().requires_grad_(False)

    def __call__(
        self,
        model: nn.Module,
        images: Float[Tensor, "batch ..."],
        targets: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> Float[Tensor, ""]:
        """Return the mean loss over a batch whose targets are classes or their probabilities."""
        config = self._config
        logits = model(images).float()
        loss = F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing)
        if self._teacher is None:
            return loss
        with torch.no_grad():
            taught = self._teacher(images).float()
        return (1 - config.distill) * loss + config.distill * self._divergence(logits, taught)

    def _divergence(
        self, logits: Float[Tensor, "batch classes"], taught: Float[Tensor, "batch classes"]
    ) -> Float[Tensor, ""]:
        temperature = self._config.temperature
        ours = F.log_softmax(logits / temperature, dim=1)
        theirs = F.log_softmax(taught / temperature, dim=1)
        # Gradients shrink with T²; the factor makes up for it.
        return temperature**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
