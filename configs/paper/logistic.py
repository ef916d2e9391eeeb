"""Logistic regression on images of 28 x 28, the RAMDA paper's convex experiment."""

from torch import Tensor, nn

PREPROCESSING = {"input_size": (1, 28, 28), "mean": (0.1307,), "std": (0.3081,)}


class Logistic(nn.Module):
    """One linear layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(784, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images."""
        return self.fc(x.flatten(1))


def logistic(num_classes: int = 10) -> Logistic:
    """7,850 parameters, whose 784 inputs are groups of ten."""
    return Logistic(num_classes)
