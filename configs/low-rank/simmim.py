"""SimMIM (Xie et al., CVPR 2022): a vision transformer that paints what was hidden from it.

The encoder of the RAMDA paper: width 192, 4 blocks of 4 heads, MLP of 768, patches of 16.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ViTConfig, ViTForMaskedImageModeling

SIDE, PATCH, MASK_PATCH, RATIO = 96, 16, 32, 0.6
PREPROCESSING = {
    "input_size": (3, SIDE, SIDE),
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2470, 0.2435, 0.2616),
}


class MaskedImages(nn.Module):
    """The transformer, and its loss: the mean absolute error of the hidden pixels."""

    def __init__(self) -> None:
        super().__init__()
        settings = ViTConfig(
            hidden_size=192, num_hidden_layers=4, num_attention_heads=4, intermediate_size=768,
            image_size=SIDE, patch_size=PATCH, encoder_stride=PATCH,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        self.vit = ViTForMaskedImageModeling(settings)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Return the painted images; `hidden` is true at the patches that are not seen."""
        return self.vit(x, bool_masked_pos=hidden).reconstruction

    def objective(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Hide squares of `MASK_PATCH` pixels, a share of `RATIO` of each image, and compare."""
        squares, each = SIDE // MASK_PATCH, MASK_PATCH // PATCH
        order = torch.rand(len(x), squares**2, generator=generator).argsort(1)
        chosen = (order < round(RATIO * squares**2)).view(-1, squares, squares)
        patches = chosen.repeat_interleave(each, 1).repeat_interleave(each, 2)
        painted = self(x, patches.flatten(1))
        pixels = patches.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)[:, None]
        error = F.l1_loss(painted, x, reduction="none")
        return (error * pixels).sum() / (pixels.sum() * x.shape[1])


def simmim() -> MaskedImages:
    """2.2 M parameters."""
    return MaskedImages()
