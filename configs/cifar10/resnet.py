"""CIFAR ResNets with option-A shortcuts (He et al., 2016, section 4.2).

A 3 x 3 stem, three stages of widths 16, 32 and 64 with n basic blocks each, and a linear layer:
6n + 2 layers. Where the shape changes, the shortcut has no parameters: it takes every second pixel
and pads the channels with zeros on both sides.
"""

import torch.nn.functional as F
from torch import Tensor, nn

PREPROCESSING = {
    "input_size": (3, 32, 32),
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}
WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """relu(shortcut(x) + BN(conv(relu(BN(conv(x))))))."""

    def __init__(self, in_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.padding = (channels - in_channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, at 1/stride of the resolution."""
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0) + 2 * (self.padding,))
        return F.relu(x + residual)


class CifarResNet(nn.Module):
    """A ResNet with `blocks` basic blocks in each of its three stages."""

    def __init__(self, blocks: int, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], blocks=blocks, stride=1)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], blocks=blocks, stride=2)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], blocks=blocks, stride=2)
        self.linear = nn.Linear(WIDTHS[2], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))


def _stage(in_channels: int, channels: int, *, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride=stride)
    rest = [BasicBlock(channels, channels, stride=1) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


def resnet20() -> CifarResNet:
    """0.27 M parameters."""
    return CifarResNet(3)


def resnet56() -> CifarResNet:
    """0.85 M parameters."""
    return CifarResNet(9)
