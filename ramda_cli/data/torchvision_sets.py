"""`torch/NAME`: torchvision's data sets, named as timm names them."""

import hashlib
from dataclasses import dataclass
from typing import Any
from urllib.error import URLError

import numpy as np
from PIL.Image import Image
from timm.data import create_dataset

from ramda_cli.config.schema import DataConfig
from ramda_cli.data.images import ImageData, Labels
from ramda_cli.errors import DataError, first_line

NAMES = ("cifar10", "cifar100", "fashion_mnist", "kmnist", "mnist", "qmnist")


@dataclass(frozen=True, eq=False)
class TorchvisionImages:
    """A torchvision data set of (image, label) pairs."""

    dataset: Any
    labels: Labels

    def read(self, index: int) -> Image:
        """Return one image."""
        return self.dataset[index][0]


def torchvision_set(name: str, config: DataConfig) -> ImageData:
    """Read a data set from `config.data_dir`, downloading it there when it is absent.

    Raises:
        DataError: the name is unknown, no directory is given, or the download fails.
    """
    short = name.removeprefix("torch/")
    if short not in NAMES:
        raise DataError(
            f"unknown data set {name!r}",
            hint="torch/NAME may be " + ", ".join(f"torch/{known}" for known in NAMES),
        )
    if config.data_dir is None:
        raise DataError(
            f"{name} needs a directory",
            hint="pass --data-dir DIR; the data is downloaded there when it is absent",
        )
    train, val = (_split(name, split, config) for split in ("train", "validation"))
    content = hashlib.sha256()
    for part in (train, val):
        content.update(np.ascontiguousarray(part.dataset.data).tobytes())
        content.update(part.labels.tobytes())
    class_names = tuple(str(c) for c in train.dataset.classes)
    return ImageData(train, val, class_names, name, content.hexdigest())


def _split(name: str, split: str, config: DataConfig) -> TorchvisionImages:
    try:
        dataset = create_dataset(name, root=str(config.data_dir), split=split, download=True)
    except (URLError, OSError, RuntimeError) as error:
        raise DataError(
            f"cannot get {name} into {config.data_dir}: {first_line(error)}",
            hint="go online, or give the directory that holds it with --data-dir",
        ) from error
    return TorchvisionImages(dataset, np.asarray(dataset.targets, dtype=np.int64))
