"""Accuracy on the validation data."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ramda_cli.data.bundle import Batches
from ramda_cli.structure.export import evaluation_mode


@torch.no_grad()
def accuracy(model: nn.Module, batches: Batches, *, device: torch.device) -> float:
    """Return top-1 accuracy in [0, 1], in evaluation mode and the model's own precision."""
    with evaluation_mode(model):
        return accuracy_of(lambda images: model(images.to(device)), batches)


def accuracy_of(logits_of: Callable[[Tensor], Tensor], batches: Batches) -> float:
    """Return the top-1 accuracy of any function from images to logits."""
    correct = total = 0
    for images, labels in batches:
        predicted = logits_of(images).argmax(dim=1)
        correct += int((predicted.cpu() == labels.cpu()).sum())
        total += labels.numel()
    return correct / total
