"""Directories of images, one folder per class, with or without train and validation folders."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from ramda_cli.config.schema import DataConfig
from ramda_cli.data.images import ImageData, Images, Labels
from ramda_cli.data.splits import TRAIN_NAMES, VAL_NAMES, find_split
from ramda_cli.errors import DataError


@dataclass(frozen=True, eq=False)
class FileImages:
    """Image files and their labels."""

    paths: tuple[str, ...]
    labels: Labels

    def read(self, index: int) -> Image.Image:
        """Decode one file.

        Raises:
            DataError: naming the file that cannot be read.
        """
        path = self.paths[index]
        try:
            with Image.open(path) as image:
                image.load()
                return image
        except (OSError, SyntaxError, ValueError) as error:
            raise unreadable(path) from error


def unreadable(path: str) -> DataError:
    """Return the error for an image that cannot be decoded."""
    return DataError(
        f"cannot read image {path}", hint="repair or delete the file; no image is skipped silently"
    )


class _Listing(ImageFolder):
    """torchvision's listing, without hidden folders such as `.ipynb_checkpoints`."""

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        names = sorted(
            entry.name
            for entry in Path(directory).iterdir()
            if entry.is_dir() and not entry.name.startswith(".")
        )
        if not names:
            raise DataError(
                f"no classes in {directory}: it has no folders with images",
                hint="put the images of each class in a folder: DIR/train/CLASS/*.jpg and "
                "DIR/val/CLASS/*.jpg, or DIR/CLASS/*.jpg",
            )
        return names, {name: label for label, name in enumerate(names)}


def folder(root: Path, config: DataConfig) -> ImageData:
    """Read `root/{train,val}/CLASS/*.jpg` or `root/CLASS/*.jpg`.

    Raises:
        DataError: there are no classes or images, or the splits do not match.
    """
    folders = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    train_name = find_split(folders, config.train_split, TRAIN_NAMES, "--train-split", str(root))
    val_name = find_split(folders, config.val_split, VAL_NAMES, "--val-split", str(root))
    if train_name is None:
        train, class_names = _list(root)
        return ImageData(train, None, class_names, str(root), _fingerprint(root, train.paths))
    train, class_names = _list(root / train_name)
    val = None
    paths = train.paths
    if val_name is not None:
        listed, val_classes = _list(root / val_name)
        val = _relabel(listed, val_classes, class_names, root / val_name)
        paths = (*train.paths, *listed.paths)
    return ImageData(train, val, class_names, str(root), _fingerprint(root, paths))


def _list(root: Path) -> tuple[FileImages, tuple[str, ...]]:
    listing = _Listing(str(root), allow_empty=True)
    labels = np.asarray(listing.targets, dtype=np.int64)
    empty = set(range(len(listing.classes))) - set(labels.tolist())
    if empty:
        raise DataError(
            f"no images in {root / listing.classes[min(empty)]}",
            hint=f"a class folder holds files of {', '.join(IMG_EXTENSIONS)}",
        )
    paths = tuple(path for path, _ in listing.samples)
    return FileImages(paths, labels), tuple(listing.classes)


def _relabel(
    images: FileImages, names: Sequence[str], train_names: Sequence[str], root: Path
) -> Images:
    unknown = [name for name in names if name not in train_names]
    if unknown:
        raise DataError(
            f"the class {unknown[0]!r} in {root} is not among the training classes",
            hint="training and validation folders need the same class names",
        )
    mapping = np.asarray([train_names.index(name) for name in names], dtype=np.int64)
    return FileImages(images.paths, mapping[images.labels])


def _fingerprint(root: Path, paths: Sequence[str]) -> str:
    """Digest relative paths and sizes: reading every byte of a large folder takes too long."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        relative = Path(path).relative_to(root).as_posix()
        digest.update(f"{relative}\0{Path(path).stat().st_size}\n".encode())
    return digest.hexdigest()
