"""The scikit-learn digits: 1,797 grey images of 8 x 8 pixels that need no download."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from ramda_cli.data.images import ImageData, Labels

_LARGEST_VALUE = 16


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images held as one uint8 array of shape (n, height, width), or (n, height, width, 3)."""

    pixels: npt.NDArray[np.uint8]
    labels: Labels

    def read(self, index: int) -> Image.Image:
        """Return one image."""
        return Image.fromarray(self.pixels[index])


def digits() -> ImageData:
    """Return the digits; every fifth image of each class is held out.

    The rule is fixed here, and not by a library's random numbers, because the weights of
    `digits-resnet` must never have seen the held-out images.
    """
    from sklearn.datasets import load_digits  # seconds that no other data set needs

    raw = load_digits()
    pixels = np.rint(raw.images * (255 / _LARGEST_VALUE)).astype(np.uint8)
    labels = raw.target.astype(np.int64)
    held_out = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        held_out[np.flatnonzero(labels == label)[4::5]] = True
    return ImageData(
        train=ArrayImages(pixels[~held_out], labels[~held_out]),
        val=ArrayImages(pixels[held_out], labels[held_out]),
        class_names=tuple(str(name) for name in raw.target_names),
        name="digits (scikit-learn)",
        fingerprint=hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest(),
    )
