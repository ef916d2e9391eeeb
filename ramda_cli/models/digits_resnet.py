"""`digits-resnet`: the small pretrained network that ships with the package.

Three residual stages of one basic block each on 8 x 8 grey digits: 0.3 M parameters, 3 M MACs.
`scripts/train_digits_model.py` trains it on the training split of the scikit-learn digits.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ramda_cli.models.loaded import Preprocessing

DIGITS_PREPROCESSING = Preprocessing(input_size=(1, 8, 8), mean=(0.305,), std=(0.376,))


class BasicBlock(nn.Module):
    """relu(x' + BN(conv(relu(BN(conv(x)))))), with x' = BN(1x1 conv(x)) where the shape changes."""

    def __init__(self, in_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d k l"]:
        """Return the block's output, at 1/stride of the resolution."""
        residual = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.shortcut(x) + self.bn2(self.conv2(residual)))


class DigitsResNet(nn.Module):
    """A ResNet for small grey images.

    Args:
        num_classes: outputs of the head.
        widths: channels of each stage; every stage after the first halves the resolution.
    """

    def __init__(self, num_classes: int = 10, *, widths: Sequence[int] = (32, 64, 128)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        incoming = (widths[0], *widths)
        self.stages = nn.Sequential(
            *(
                BasicBlock(before, width, stride=1 if i == 0 else 2)
                for i, (before, width) in enumerate(zip(incoming, widths, strict=False))
            )
        )
        self.fc = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n classes"]:
        """Return the logits."""
        features = self.stages(F.relu(self.bn1(self.conv1(x))))
        return self.fc(features.mean(dim=(2, 3)))
