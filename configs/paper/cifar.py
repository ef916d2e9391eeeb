"""The RAMDA paper's networks for images of 32 x 32: VGG-19, and ResNet-50 with a small stem."""

from collections.abc import Sequence

import timm
from torch import nn

PREPROCESSING = {
    "input_size": (3, 32, 32),
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2470, 0.2435, 0.2616),
}
VGG11 = ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2)
VGG19 = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)


def vgg(stages: Sequence[Sequence[int]], num_classes: int, *, divisor: int = 1) -> nn.Sequential:
    """Convolutions with BatchNorm in stages, so many times narrower, and one linear layer."""
    layers: list[nn.Module] = []
    in_channels = 3
    for stage in stages:
        for width in stage:
            channels = width // divisor
            layers.append(nn.Conv2d(in_channels, channels, 3, padding=1, bias=False))
            layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            in_channels = channels
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(in_channels, num_classes))


def resnet50(num_classes: int = 10) -> nn.Module:
    """23.5 M parameters: a 3 x 3 convolution of stride 1 and no pooling come before the stages."""
    model = timm.create_model("resnet50", num_classes=num_classes)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def vgg19(num_classes: int = 10) -> nn.Sequential:
    """20.0 M parameters, 16 convolutions."""
    return vgg(VGG19, num_classes)


def vgg11_narrow() -> nn.Sequential:
    """0.15 M parameters, 8 convolutions of an eighth of VGG-11's widths: for a CPU."""
    return vgg(VGG11, 10, divisor=8)


def vgg19_100() -> nn.Sequential:
    """VGG-19 for 100 classes."""
    return vgg19(100)


def resnet50_100() -> nn.Module:
    """ResNet-50 for 100 classes."""
    return resnet50(100)
