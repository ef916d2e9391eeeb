"""The multilayer perceptron of the RAMDA paper's nuclear-norm experiment, for images of 28 x 28."""

from itertools import pairwise

from torch import Tensor, nn

PREPROCESSING = {"input_size": (1, 28, 28), "mean": (0.1307,), "std": (0.3081,)}

WIDTHS = (784, 512, 256, 128, 64, 32, 16)


class Perceptron(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.inner = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(WIDTHS))
        self.head = nn.Linear(WIDTHS[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images."""
        x = x.flatten(1)
        for layer in self.inner:
            x = layer(x).relu()
        return self.head(x)


def mlp(num_classes: int = 10) -> Perceptron:
    """784-512-256-128-64-32-16-10: 0.58 M parameters."""
    return Perceptron(num_classes)
