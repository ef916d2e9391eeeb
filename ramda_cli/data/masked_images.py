"""Images of which squares are hidden (SimMIM, Xie et al., CVPR 2022, arXiv:2111.09886).

An image of side s has (s / m)² squares of side m, of which a share r, rounded up, is hidden. A
model of patches of side p, which divides m, is told so patch by patch. Masks of a training batch
depend on (seed, pass, number of the batch) alone, those of validation on the number of the image.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ramda_cli.config.schema import DataConfig
from ramda_cli.data.bundle import Batches, DataBundle, ShuffledBatches, part_of
from ramda_cli.data.seeds import mixed_seed
from ramda_cli.errors import DataError
from ramda_cli.models.loaded import Masking, Preprocessing
from ramda_cli.tasks import MASKED_IMAGE_MODELING
from ramda_cli.tasks.inputs import ExampleInputs, batch_size

_STREAM = 2
"""Apart from the random numbers of the images and of their mixtures."""


def with_masks(preprocessing: Preprocessing, config: DataConfig) -> Preprocessing:
    """Return what an image must look like, with the squares that the configuration asks for.

    Raises:
        DataError: the squares do not fit the image, or the model's patches do not fit them.
    """
    masking = preprocessing.masking
    if masking is None:
        return preprocessing
    square = config.mask_patch or masking.square
    side = preprocessing.input_size[-1]
    if square % masking.patch_size:
        raise DataError(
            f"squares of {square} pixels cannot be hidden from patches of {masking.patch_size}",
            hint=f"data.mask_patch must be a multiple of {masking.patch_size}",
        )
    if side % square:
        raise DataError(
            f"images of {side} pixels cannot be cut into squares of {square} to hide",
            hint=f"data.mask_patch must divide {side} and be a multiple of {masking.patch_size}",
        )
    chosen = replace(masking, square=square, ratio=config.mask_ratio or masking.ratio)
    return replace(preprocessing, masking=chosen)


def hide(
    data: DataBundle, images: str, preprocessing: Preprocessing, *, batch_size: int, seed: int
) -> DataBundle:
    """Return the images of a data set as what is seen of them and what is not, without classes.

    Args:
        data: the images.
        images: name, splits and sizes, for the report.
        preprocessing: with what is hidden.
        batch_size: of training.
        seed: of the masks of training.
    """
    masking = preprocessing.masking
    if masking is None:
        raise ValueError("there must be something to hide")
    side = preprocessing.input_size[-1]
    size = min(batch_size, data.train_size)
    return replace(
        data,
        train=MaskedTraining(data.train, masking, side=side, batch_size=size, seed=seed),
        val=MaskedValidation(data.val, masking, side=side),
        class_names=(),
        description=(
            f"{images}, {hidden_squares(masking, side)} of {(side // masking.square) ** 2} squares"
            f" of {masking.square} pixels hidden"
        ),
        task=MASKED_IMAGE_MODELING,
    )


class MaskedTraining:
    """A loader of images with other masks in each pass.

    Args:
        images: shuffled.
        masking: what is hidden.
        side: of an image, in pixels.
        batch_size: of a batch that nobody shares.
        seed: of the masks.
    """

    def __init__(
        self, images: ShuffledBatches, masking: Masking, *, side: int, batch_size: int, seed: int
    ) -> None:
        self._images = images
        self._masking = masking
        self._side = side
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0
        self._first = 0
        self._part = slice(None)

    def set_epoch(self, epoch: int, *, first: int = 0) -> None:
        """Make the next pass number `epoch`, beginning with batch `first`; to resume a run."""
        self._epoch, self._first = epoch, first
        self._images.set_epoch(epoch, first=first)

    def take_part(self, part: int, of: int) -> None:
        """Give of each batch only one of so many equal parts."""
        self._images.take_part(part, of)
        self._part = part_of(self._batch_size, part, of)

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[tuple[ExampleInputs, Tensor]]:
        epoch, self._epoch = self._epoch, self._epoch + 1
        first, self._first = self._first, 0
        for number, (images, _) in enumerate(self._images, start=first):
            key = mixed_seed(self._seed, epoch, number, _STREAM)
            draws = torch.Generator().manual_seed(key)
            # Of the whole batch, so that processes that share it hide what one alone would.
            hidden = draw_squares(self._batch_size, self._masking, self._side, draws)
            yield masked(images, hidden[self._part], self._masking)


class MaskedValidation:
    """A loader of images whose masks are the same in every run, whatever the batch size.

    Args:
        images: in a fixed order.
        masking: what is hidden.
        side: of an image, in pixels.
    """

    def __init__(self, images: Batches, masking: Masking, *, side: int) -> None:
        self._images = images
        self._masking = masking
        self._side = side

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[tuple[ExampleInputs, Tensor]]:
        draws = torch.Generator().manual_seed(mixed_seed(0, 0, 0, _STREAM))
        for images, _ in self._images:
            hidden = draw_squares(batch_size(images), self._masking, self._side, draws)
            yield masked(images, hidden, self._masking)


def hidden_squares(masking: Masking, side: int) -> int:
    """Return how many squares of an image are hidden."""
    # Rounded first: 0.07 of 100 squares are 7, and as floats a little more.
    return math.ceil(round(masking.ratio * (side // masking.square) ** 2, 6))


def draw_squares(
    count: int, masking: Masking, side: int, randomness: torch.Generator
) -> Bool[Tensor, "n rows columns"]:
    """Draw the squares that are hidden of each of `count` images: of all as many."""
    along = side // masking.square
    hidden = hidden_squares(masking, side)
    # float64, in which two draws are never equal: each image by itself, in order.
    draws = torch.rand(count, along**2, generator=randomness, dtype=torch.float64)
    return (draws.argsort(dim=1).argsort(dim=1) < hidden).view(count, along, along)


def masked(
    images: ExampleInputs, hidden: Bool[Tensor, "n rows columns"], masking: Masking
) -> tuple[ExampleInputs, Float[Tensor, "n c h w"]]:
    """Return what a model is given, and the images with NaN where it sees them.

    It is given whole images, and `bool_masked_pos`, n x patches, which is true at the patches that
    it is to leave out.
    """
    if not isinstance(images, Tensor):
        raise ValueError("what is hidden is a part of an image")
    each = masking.square // masking.patch_size
    patches = _enlarged(hidden, each)
    pixels = _enlarged(hidden, masking.square)[:, None]
    inputs = {"pixel_values": images, "bool_masked_pos": patches.flatten(1)}
    return inputs, images.masked_fill(~pixels, math.nan)


def _enlarged(squares: Bool[Tensor, "n rows columns"], times: int) -> Tensor:
    return squares.repeat_interleave(times, 1).repeat_interleave(times, 2)
