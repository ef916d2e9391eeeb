"""VGG-11 with batch normalization (Simonyan and Zisserman, 2015, configuration A), for CIFAR-10.

As is usual at 32 pixels, one linear layer follows the last pooling; every width is half of the
original's, so that a CPU can train it.
"""

from torch import nn

PREPROCESSING = {
    "input_size": (3, 32, 32),
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}
STAGES = ((32,), (64,), (128, 128), (256, 256), (256, 256))


def vgg11_half(num_classes: int = 10) -> nn.Sequential:
    """2.3 M parameters: 3 x 3 convolutions in five stages, each followed by 2 x 2 max pooling."""
    layers: list[nn.Module] = []
    in_channels = 3
    for stage in STAGES:
        for channels in stage:
            layers.append(nn.Conv2d(in_channels, channels, 3, padding=1, bias=False))
            layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            in_channels = channels
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(in_channels, num_classes))
