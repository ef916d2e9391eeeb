"""Mixing the images of a batch: mixup and cutmix (arXiv:1710.09412, arXiv:1905.04899).

With λ from Beta(α, α), one for each batch, mixup makes λ x + (1 - λ) x' of an image x and another
one x' of the batch; cutmix replaces a rectangle of x, a share 1 - λ of it, by that of x'. The
target is λ y + (1 - λ) y' in class probabilities. Label smoothing is linear, so that the loss may
smooth these as it smooths classes.
"""

import torch
from jaxtyping import Float, Int
from timm.data import Mixup
from torch import Tensor

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.data.seeds import seeded_everywhere

_STREAM = 1
"""Apart from the random numbers of the images, which are seeded by (seed, epoch, image)."""


class Mixing:
    """Mixes training batches by timm's `Mixup`, or leaves them as they are.

    What is drawn depends on (seed, epoch, batch) alone: a resumed run draws the same.

    Args:
        config: `mixup`, `cutmix` and `seed`; with both, half of the batches are mixed each way.
        classes: of the targets.
    """

    def __init__(self, config: TrainingConfig, *, classes: int) -> None:
        self._seed = config.seed
        self._mixup: Mixup | None = None
        if config.mixup > 0 or config.cutmix > 0:
            self._mixup = Mixup(
                config.mixup, config.cutmix, label_smoothing=0.0, num_classes=classes
            )

    def __call__(
        self,
        images: Float[Tensor, "batch channels height width"],
        labels: Int[Tensor, " batch"],
        *,
        epoch: int,
        batch: int,
    ) -> tuple[Tensor, Int[Tensor, " batch"] | Float[Tensor, "batch classes"]]:
        """Return mixed images and class probabilities, or both arguments when nothing is mixed."""
        if self._mixup is None:
            return images, labels
        count = len(images)
        # A copy, because timm mixes in place. It takes an even number and pairs first with last:
        # of an odd batch the first image is paired with itself.
        images, labels = (torch.cat([x, x[: count % 2]]) for x in (images, labels))
        with seeded_everywhere(self._seed, epoch, batch, _STREAM):
            images, targets = self._mixup(images, labels)
        return images[:count], targets[:count]
