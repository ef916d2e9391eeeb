"""Labelled images before any transform: the interface, selections of it, held-out shares."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL.Image import Image

from ramda_cli.errors import DataError

Labels = npt.NDArray[np.int64]
HOLDOUT_SHARE = 0.2
# The same images are held out whatever the run's seed, so that runs and methods stay comparable.
HOLDOUT_SEED = 0


class Images(Protocol):
    """Images in a fixed order.

    `read` raises `DataError` with the image's path where it cannot be decoded: an unreadable image
    stops the run, because a silently smaller data set makes figures incomparable.
    """

    @property
    def labels(self) -> Labels:
        """int64 class indices, one per image."""

    def read(self, index: int) -> Image:
        """Decode one image."""


@dataclass(frozen=True, eq=False)
class Selection:
    """Some of the images, in the order of `indices`."""

    images: Images
    indices: npt.NDArray[np.int64]

    @property
    def labels(self) -> Labels:
        """Labels of the selected images."""
        return self.images.labels[self.indices]

    def read(self, index: int) -> Image:
        """Decode one of the selected images."""
        return self.images.read(int(self.indices[index]))


@dataclass(frozen=True, eq=False)
class ImageData:
    """What every kind of source gives.

    Attributes:
        train: training images.
        val: validation images; None where the source has none of its own.
        class_names: in label order.
        name: of the source, for the report.
        fingerprint: hexadecimal digest that changes when the data does.
        notes: what was found worth telling.
        hub_id: of a data set from the Hugging Face hub.
    """

    train: Images
    val: Images | None
    class_names: tuple[str, ...]
    name: str
    fingerprint: str
    notes: tuple[str, ...] = ()
    hub_id: str | None = None


def with_validation(data: ImageData) -> ImageData:
    """Hold out a stratified fifth of the training images where there are no validation images.

    Raises:
        DataError: there are too few images for that.
    """
    if data.val is not None:
        return data
    held_out = stratified_indices(data.train.labels, share=HOLDOUT_SHARE, seed=HOLDOUT_SEED)
    if held_out.size == 0:
        raise DataError(
            f"{data.name} has too few images to hold out a validation split",
            hint="give at least 3 images of a class, or a separate validation split",
        )
    rest = np.setdiff1d(np.arange(len(data.train.labels)), held_out)
    note = (
        f"{data.name} has no validation split: {held_out.size} of {len(data.train.labels)} "
        "training images are held out, the same ones in every run"
    )
    return replace(
        data,
        train=Selection(data.train, rest),
        val=Selection(data.train, held_out),
        notes=(*data.notes, note),
    )


def limited(images: Images, limit: int | None, *, seed: int) -> Images:
    """Keep a random `limit` of the images: the first ones of a folder are all of one class."""
    chosen = limited_indices(len(images.labels), limit, seed=seed)
    return images if chosen is None else Selection(images, chosen)


def limited_indices(count: int, limit: int | None, *, seed: int) -> Labels | None:
    """Return which of `count` examples a limit leaves, in order; None where it leaves all."""
    if limit is None or limit >= count:
        return None
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit])


def stratified_indices(labels: Sequence[int] | Labels, *, share: float, seed: int) -> Labels:
    """Return sorted indices of a random `share` of each class, rounded per class."""
    values = np.asarray(labels)
    generator = np.random.default_rng(seed)
    chosen = [
        members[: round(share * members.size)]
        for label in np.unique(values)
        for members in [generator.permutation(np.flatnonzero(values == label))]
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)
