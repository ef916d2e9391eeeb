"""Small images, decoded once into memory and transformed a whole batch at a time.

A CIFAR-10 epoch costs about a second of one core this way; through a loader that decodes every
image in every epoch it costs fifteen.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from ramda_cli.data.bundle import part_of
from ramda_cli.data.images import Images
from ramda_cli.data.seeds import epoch_order, generator, seeded_everywhere
from ramda_cli.models.loaded import Preprocessing

LARGEST_SIDE = 64
LARGEST_BYTES = 10**9


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """Decoded images of one size.

    Attributes:
        pixels: channels last, so that one image row is contiguous.
        labels: class indices.
        coloured: whether the files held colour, whatever the model wants.
    """

    pixels: UInt8[Tensor, "n h w c"]
    labels: Int64[Tensor, " n"]
    coloured: bool


@dataclass(frozen=True)
class Augmentation:
    """Random shifts and flips.

    Attributes:
        shift: largest shift in pixels along each axis; what it uncovers is mirrored.
        flip: whether half of the images are mirrored left to right.
    """

    shift: int
    flip: bool


def decode(images: Images, *, channels: int) -> DecodedImages | None:
    """Decode everything, or return None when the images are large, many, or of several sizes.

    Raises:
        DataError: an image cannot be read.
    """
    count = len(images.labels)
    first = images.read(0)
    width, height = first.size
    if max(width, height) > LARGEST_SIDE or width != height:
        return None
    if count * height * width * channels > LARGEST_BYTES:
        return None
    pixels = np.empty((count, height, width, channels), dtype=np.uint8)
    mode = image_mode(channels)
    for index in range(count):
        image = images.read(index)
        if image.size != (width, height):
            return None
        pixels[index] = np.asarray(image.convert(mode)).reshape(height, width, channels)
    return DecodedImages(
        torch.from_numpy(pixels), torch.from_numpy(images.labels.copy()), is_coloured(first.mode)
    )


def image_mode(channels: int) -> str:
    """Return the Pillow mode that has so many channels."""
    return {1: "L", 3: "RGB"}[channels]


def is_coloured(mode: str) -> bool:
    """Tell whether a Pillow mode holds colour."""
    return mode not in {"1", "L", "LA", "La", "I", "F"} and not mode.startswith("I;")


class MemoryBatches:
    """A loader over decoded images.

    Pass number e, counted from 0 over the object's life or set by `set_epoch`, has an order and
    an augmentation that depend on (seed, e) alone.

    Args:
        images: what to load.
        preprocessing: of the model.
        batch_size: images per batch.
        shuffle: draws a new order in each pass and drops an incomplete last batch.
        augmentation: of every image; None does nothing.
        erase: changes normalized images in place, by the global random numbers; None does nothing.
        seed: of order and augmentation.
    """

    def __init__(
        self,
        images: DecodedImages,
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        shuffle: bool,
        augmentation: Augmentation | None = None,
        erase: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        self._images = images
        self._preprocessing = preprocessing
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._augmentation = augmentation
        self._erase = erase
        self._seed = seed
        self._epoch = 0
        self._first = 0
        self._part = slice(None)

    def take_part(self, part: int, of: int) -> None:
        """Give of each batch only one of so many equal parts."""
        self._part = part_of(min(self._batch_size, len(self._images.labels)), part, of)

    def set_epoch(self, epoch: int, *, first: int = 0) -> None:
        """Make the next pass number `epoch`, beginning with batch `first`; to resume a run."""
        self._epoch, self._first = epoch, first

    def __len__(self) -> int:
        return batches(len(self._images.labels), self._batch_size, drop_last=self._shuffle)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, self._epoch = self._epoch, self._epoch + 1
        first, self._first = self._first, 0
        randomness = generator(self._seed, epoch)
        order = epoch_order(len(self._images.labels), randomness if self._shuffle else None)
        for number in range(len(self)):
            chosen = order[number * self._batch_size : (number + 1) * self._batch_size]
            draws = self._draw(len(chosen), randomness)
            if number < first:
                continue
            pixels = self._images.pixels[chosen]
            if draws is not None:
                pixels = augment(pixels, *draws)
            inputs = to_input(pixels, self._preprocessing)
            if self._erase is not None:
                with seeded_everywhere(self._seed, epoch, number):
                    inputs = self._erase(inputs)
            yield inputs[self._part], self._images.labels[chosen][self._part]

    def _draw(self, count: int, randomness: torch.Generator) -> tuple[Tensor, Tensor | None] | None:
        return None if self._augmentation is None else draw(count, self._augmentation, randomness)


def batches(count: int, batch_size: int, *, drop_last: bool) -> int:
    """Return how many batches a pass has; one incomplete batch is never dropped alone."""
    if drop_last and count >= batch_size:
        return count // batch_size
    return -(-count // batch_size)


def draw(
    count: int, augmentation: Augmentation, randomness: torch.Generator
) -> tuple[Int64[Tensor, "2 n 1"], Bool[Tensor, "n 1"] | None]:
    """Draw for each image how far it is shifted along each axis, and whether it is mirrored."""
    shift = augmentation.shift
    offsets = torch.randint(-shift, shift + 1, (2, count, 1), generator=randomness)
    if not augmentation.flip:
        return offsets, None
    return offsets, torch.rand(count, 1, generator=randomness) < 0.5


def augment(
    pixels: UInt8[Tensor, "n h w c"],
    offsets: Int64[Tensor, "2 n 1"],
    flipped: Bool[Tensor, "n 1"] | None,
) -> UInt8[Tensor, "n h w c"]:
    """Shift each image by its own offset and mirror some, in one gather."""
    count, height, width, _ = pixels.shape
    rows = _mirrored(torch.arange(height) + offsets[0], height)
    columns = _mirrored(torch.arange(width) + offsets[1], width)
    if flipped is not None:
        columns = torch.where(flipped, columns.flip(1), columns)
    first = torch.arange(count)[:, None, None]
    return pixels[first, rows[:, :, None], columns[:, None, :]]


def _mirrored(positions: Tensor, size: int) -> Tensor:
    """Reflect positions outside [0, size) at the border pixel, as reflect padding does."""
    return (size - 1) - ((size - 1) - positions.abs()).abs()


def to_input(pixels: UInt8[Tensor, "n h w c"], preprocessing: Preprocessing) -> Tensor:
    """Return normalized float32 images N x C x H x W of the model's size."""
    images = pixels.permute(0, 3, 1, 2).float().div_(255)
    size = preprocessing.input_size[1:]
    if tuple(images.shape[2:]) != size:
        mode = "nearest" if preprocessing.interpolation == "nearest" else "bicubic"
        smooth = mode == "bicubic"
        images = F.interpolate(images, size, mode=mode, antialias=smooth).clamp_(0, 1)
    mean = torch.tensor(preprocessing.mean).view(-1, 1, 1)
    std = torch.tensor(preprocessing.std).view(-1, 1, 1)
    return images.sub_(mean).div_(std).contiguous()
