"""Mixing the images of a batch: mixup and cutmix (arXiv:1710.09412, arXiv:1905.04899).

With λ from Beta(α, α), one for each batch, mixup makes λ x + (1 - λ) x' of an image x and another
one x' of the batch; cutmix replaces a rectangle of x, a share 1 - λ of it, by that of x'. The
target is λ y + (1 - λ) y' in class probabilities. Label smoothing is linear, so that the loss may
smooth these as it smooths classes.
"""

import torch
from timm.data import Mixup
from torch import Tensor

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.data.seeds import seeded_everywhere
from ramda_cli.tasks.inputs import ExampleInputs

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
        inputs: ExampleInputs,
        targets: Tensor,
        *,
        epoch: int,
        batch: int,
    ) -> tuple[ExampleInputs, Tensor]:
        """Return mixed images and class probabilities, or both arguments when nothing is mixed.

        Args:
            inputs: images, batch x channels x height x width, where they are to be mixed.
            targets: their classes.
            epoch: from 1; what is drawn depends on it.
            batch: number in the epoch, as well.
        """
        if self._mixup is None or not isinstance(inputs, Tensor):
            return inputs, targets
        count = len(inputs)
        # A copy, because timm mixes in place. It takes an even number and pairs first with last:
        # of an odd batch the first image is paired with itself.
        images, labels = (torch.cat([x, x[: count % 2]]) for x in (inputs, targets))
        with seeded_everywhere(self._seed, epoch, batch, _STREAM):
            images, mixed = self._mixup(images, labels)
        return images[:count], mixed[:count]
