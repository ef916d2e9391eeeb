"""Tables of images in the Hugging Face layout: parquet files and data sets on the hub."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import ClassLabel, Dataset
from PIL.Image import Image

from ramda_cli.config.schema import DataConfig
from ramda_cli.data.columns import find_columns
from ramda_cli.data.folder import unreadable
from ramda_cli.data.images import ImageData, Images, Labels, Selection
from ramda_cli.data.splits import TRAIN_NAMES, VAL_NAMES, Split, find_split, parse_split
from ramda_cli.errors import DataError, first_line

_HUB_VAL_NAMES = ("validation", *VAL_NAMES)
_HASHED_BYTES = 10**9


@dataclass(frozen=True, eq=False)
class TableImages:
    """The rows of a table.

    Attributes:
        rows: with the image column stored as {bytes, path}, not decoded.
        key: the image column.
        labels: class indices.
        where: the table's name, for errors.
    """

    rows: Dataset
    key: str
    labels: Labels
    where: str
    _decoder: datasets.Image = field(default_factory=datasets.Image)

    def read(self, index: int) -> Image:
        """Decode one row.

        Raises:
            DataError: naming the image's path, or its row where it has none.
        """
        stored = self.rows[index][self.key]
        name = f"{(stored or {}).get('path') or ''} (row {index} of {self.where})".strip()
        if stored is None:
            raise unreadable(name)
        try:
            return self._decoder.decode_example(stored)
        except (OSError, SyntaxError, ValueError) as error:
            raise unreadable(name) from error


def parquet(path: Path, config: DataConfig) -> ImageData:
    """Read a parquet file, or a directory of them whose names say their split.

    Raises:
        DataError: the files cannot be read, or a column or split is missing.
    """
    files = [path] if path.is_file() else parquet_files(path)
    options: dict[str, Any] = (
        {"data_files": str(path)} if path.is_file() else {"data_dir": str(path)}
    )
    try:
        with without_progress():
            splits = datasets.load_dataset("parquet", **options)
    except (datasets.exceptions.DatasetGenerationError, OSError, ValueError) as error:
        cause = error.__cause__ or error
        raise DataError(
            f"cannot read {path} as parquet: {first_line(cause)}",
            hint="check the file, and that HF_HOME is a directory that can be written",
        ) from error
    return from_splits(splits, config, name=str(path), fingerprint=digest(files))


def parquet_files(root: Path) -> list[Path]:
    """Return the parquet files of a directory and of the folders in it, no deeper."""
    return sorted([*root.glob("*.parquet"), *root.glob("*/*.parquet")])


def from_splits(
    splits: Mapping[str, Dataset], config: DataConfig, *, name: str, fingerprint: str | None = None
) -> ImageData:
    """Choose splits and columns; the fingerprint is the library's when none is given.

    Raises:
        DataError: a split or column is missing, or labels are not classes.
    """
    wanted = parse_split(config.train_split, "--train-split")
    held = parse_split(config.val_split, "--val-split")
    train_name = find_split(list(splits), wanted.name, TRAIN_NAMES, "--train-split", name)
    val_name = find_split(list(splits), held.name, _HUB_VAL_NAMES, "--val-split", name)
    if train_name is None:
        raise DataError(
            f"{name} has no training split",
            hint=f"name it with --train-split; the splits are {', '.join(splits)}",
        )
    train = splits[train_name]
    input_key, target_key = find_columns(train.features, config, name)
    class_names, values = _classes(train, target_key, name)
    parts = {train_name: train}
    if val_name is not None:
        parts[val_name] = splits[val_name]
    images = {
        part: _images(rows, (input_key, target_key), values, f"{name}, split {part}")
        for part, rows in parts.items()
    }
    if fingerprint is None:
        fingerprint = "-".join(rows._fingerprint for rows in parts.values())
    val = _part(images[val_name], held) if val_name is not None else None
    return ImageData(_part(images[train_name], wanted), val, class_names, name, fingerprint)


def _part(images: TableImages, split: Split) -> Images:
    rows = split.rows(len(images.labels))
    if len(rows) == len(images.labels):
        return images
    if not rows:
        raise DataError(
            f"no row of {images.where} is in the range asked for: it has {len(images.labels)}",
            hint="correct the range in --train-split or --val-split",
        )
    return Selection(images, np.arange(rows.start, rows.stop))


def _classes(rows: Dataset, key: str, where: str) -> tuple[tuple[str, ...], list[Any]]:
    """Return the class names and the stored value of each class."""
    feature = rows.features[key]
    if isinstance(feature, ClassLabel):
        return tuple(feature.names), list(range(feature.num_classes))
    values = rows.unique(key)
    if not all(isinstance(value, int | str) for value in values):
        raise DataError(
            f"the column {key!r} of {where} does not hold classes",
            hint="name a column of integers or texts with --target-key",
        )
    values = sorted(values)
    return tuple(str(value) for value in values), values


def _images(rows: Dataset, keys: tuple[str, str], values: list[Any], where: str) -> TableImages:
    input_key, target_key = keys
    missing = [key for key in keys if key not in rows.features]
    if missing:
        raise DataError(
            f"{where} has no column {missing[0]!r}", hint=f"it has {', '.join(rows.features)}"
        )
    index = {value: label for label, value in enumerate(values)}
    stored = rows[target_key][:]
    unknown = next((value for value in stored if value not in index), None)
    if unknown is not None:
        raise DataError(
            f"{where} has the label {unknown!r}, which is none of the {len(index)} classes",
            hint="a split whose labels are hidden (-1) cannot be used; choose with --val-split",
        )
    labels = np.asarray([index[value] for value in stored], dtype=np.int64)
    undecoded = rows.select_columns(input_key).cast_column(input_key, datasets.Image(decode=False))
    return TableImages(undecoded, input_key, labels, where)


def digest(files: list[Path]) -> str:
    """Digest the files' content; names and sizes where that is above 1 GB."""
    digest = hashlib.sha256()
    if sum(file.stat().st_size for file in files) > _HASHED_BYTES:
        for file in files:
            digest.update(f"{file.name}\0{file.stat().st_size}\n".encode())
        return digest.hexdigest()
    for file in files:
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


@contextmanager
def without_progress() -> Iterator[None]:
    """Keep `datasets` from drawing its own bar over the run's progress."""
    disabled = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not disabled:
            datasets.enable_progress_bars()
