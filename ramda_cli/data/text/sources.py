"""Tables of texts: CSV, JSON lines, parquet and plain text files, and data sets on the hub."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, IterableDataset

from ramda_cli.config.schema import DataConfig
from ramda_cli.data.hub import BUILT_IN, load_hub_splits, where_to_get
from ramda_cli.data.splits import TRAIN_NAMES, VAL_NAMES, Split, find_split, parse_split
from ramda_cli.data.tables import digest, without_progress
from ramda_cli.errors import DataError, first_line

_KINDS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
    ".txt": "text",
}
_DESCRIPTIONS = ("dataset_infos.json", "dataset_dict.json", "state.json", "requirements.txt")
_VALIDATION_ROWS = 2_000
"""Of a streamed table: its first ones."""

_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, eq=False)
class Texts:
    """The rows of the two splits.

    Attributes:
        train, val: rows; the second is None where the source has no such split.
        name: of the source, for the report.
        fingerprint: hexadecimal digest that changes when the data does.
        hub_id: of a data set from the Hugging Face hub.
    """

    train: Dataset
    val: Dataset | None
    name: str
    fingerprint: str
    hub_id: str | None = None


def open_texts(config: DataConfig) -> Texts:
    """Find the table that a name means, and its training and validation split.

    A file is one split, `train`. In a directory the files' names say their split: `train.csv`,
    `dev.csv` or `valid.txt`, `test-00000-of-00002.parquet`.

    Raises:
        DataError: there is none, or a split is missing.
    """
    if config.name in BUILT_IN:
        raise DataError(
            f"{config.name} is a set of images, and the model reads texts",
            hint="give a table of texts, or a model that sees images",
        )
    path = Path(config.name).expanduser()
    if path.is_file() or path.is_dir():
        files = _files_by_split(path)
        splits = _read(path, files)
        listed = [file for each in files.values() for file in each]
        return _chosen(splits, config, str(path), digest(listed), None)
    if path.is_absolute() or config.name.startswith((".", "~")) or path.suffix in _KINDS:
        raise DataError(f"no such file or directory: {config.name}", hint=where_to_get(path))
    splits = load_hub_splits(config.name)
    prints = "-".join(rows._fingerprint for rows in splits.values())
    return _chosen(splits, config, config.name, prints, config.name)


def open_stream(config: DataConfig) -> IterableDataset:
    """Open the training split of the same table without storing it.

    Raises:
        DataError: as `open_texts`, or the split is a part of one.
    """
    split = parse_split(config.train_split, "--train-split")
    if split.start or split.stop:
        raise DataError(
            "a part of a split cannot be streamed", hint="name a whole one with --train-split"
        )
    path = Path(config.name).expanduser()
    if path.exists():
        files = _files_by_split(path)
        suffix = next(iter(files.values()))[0].suffix
        named = {each: [str(file) for file in found] for each, found in files.items()}
        options = _options(suffix)
        try:
            splits = datasets.load_dataset(
                _KINDS[suffix], data_files=named, streaming=True, **options
            )
        except (datasets.exceptions.DatasetGenerationError, OSError, ValueError) as error:
            raise _unreadable(path, suffix, error) from error
    else:
        splits = load_hub_splits(config.name, streaming=True)
    return splits[_training_split(splits, split, config.name)]


def open_validation(config: DataConfig) -> Texts:
    """Open the validation split alone, of a repository on the hub its first rows, as both splits.

    Raises:
        DataError: as `open_texts`, or there is no such split.
    """
    held = parse_split(config.val_split, "--val-split")
    path = Path(config.name).expanduser()
    files = _files_by_split(path) if path.exists() else {}
    stream: dict[str, Any] = {**files} or load_hub_splits(config.name, streaming=True)
    usual = ("validation", *VAL_NAMES)
    name = find_split(list(stream), held.name, usual, "--val-split", config.name)
    if name is None:
        raise DataError(
            f"{config.name} has no validation split",
            hint=f"a stream needs one: name it with --val-split; there are {', '.join(stream)}",
        )
    if files:
        rows = _part(_read(path, {name: files[name]})[name], held, f"{path}, split {name}")
        return Texts(rows, rows, str(path), digest(files[name]))
    if held.start or held.stop:
        raise DataError(
            "a part of a split cannot be streamed", hint="name a whole one with --val-split"
        )
    rows = Dataset.from_list(list(stream[name].take(_VALIDATION_ROWS)))
    return Texts(rows, rows, config.name, f"{config.name}-{name}", config.name)


def _files_by_split(path: Path) -> dict[str, list[Path]]:
    if path.is_file():
        if path.suffix not in _KINDS:
            raise DataError(
                f"{path} is no table of texts",
                hint=f"give a file that ends in {', '.join(_KINDS)}, or a directory of such",
            )
        return {"train": [path]}
    found = [*path.iterdir(), *path.glob("*/*")]
    files = sorted(f for f in found if f.suffix in _KINDS and f.name not in _DESCRIPTIONS)
    kinds = {_KINDS[file.suffix] for file in files}
    if len(kinds) != 1:
        what = "several kinds of files" if kinds else "no files of texts"
        raise DataError(
            f"{path} has {what}", hint=f"give one kind of {', '.join(_KINDS)}, or name a file"
        )
    if len(files) == 1:
        return {"train": files}
    by_split: dict[str, list[Path]] = {}
    for file in files:
        words = re.split(r"[^a-z]+", file.stem.lower())
        split = next((_SPLITS[word] for word in words if word in _SPLITS), None)
        if split is None:
            raise DataError(
                f"the name of {file} does not say its split",
                hint="call the files train, validation and test, or give one file",
            )
        by_split.setdefault(split, []).append(file)
    return by_split


def _read(path: Path, files: Mapping[str, list[Path]]) -> dict[str, Dataset]:
    suffix = next(iter(files.values()))[0].suffix
    read: dict[str, Dataset] = {}
    for split, each in files.items():
        if not any(file.stat().st_size for file in each):
            raise DataError(
                f"the {split} split of {path} is empty: {each[0]} holds nothing",
                hint="write the texts into it, or leave the file out",
            )
        # One at a time: splits may have other columns, as a test without its labels.
        named = {split: [str(file) for file in each]}
        try:
            with without_progress():
                read.update(
                    datasets.load_dataset(_KINDS[suffix], data_files=named, **_options(suffix))
                )
        except (datasets.exceptions.DatasetGenerationError, OSError, ValueError) as error:
            raise _unreadable(path, suffix, error) from error
    return read


def _options(suffix: str) -> dict[str, Any]:
    """Return how a table is read: in CSV, what says `None` or `NA` is a text."""
    if _KINDS[suffix] != "csv":
        return {}
    separator = "\t" if suffix == ".tsv" else ","
    return {"sep": separator, "keep_default_na": False, "na_values": [""]}


def _unreadable(path: Path, suffix: str, error: BaseException) -> DataError:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return DataError(
        f"cannot read {path} as {_KINDS[suffix]}: {first_line(cause)}",
        hint="check the file, and that HF_HOME is a directory that can be written",
    )


def _chosen(
    splits: Mapping[str, Dataset],
    config: DataConfig,
    name: str,
    fingerprint: str,
    hub_id: str | None,
) -> Texts:
    wanted = parse_split(config.train_split, "--train-split")
    held = parse_split(config.val_split, "--val-split")
    train = _training_split(splits, wanted, name)
    usual = [split for split in ("validation", *VAL_NAMES) if split != train]
    val = find_split(list(splits), held.name, usual, "--val-split", name)
    return Texts(
        _part(splits[train], wanted, f"{name}, split {train}"),
        None if val is None else _part(splits[val], held, f"{name}, split {val}"),
        name,
        fingerprint,
        hub_id,
    )


def _training_split(splits: Mapping[str, object], wanted: Split, where: str) -> str:
    found = find_split(list(splits), wanted.name, TRAIN_NAMES, "--train-split", where)
    if found is None:
        raise DataError(
            f"{where} has no training split",
            hint=f"name it with --train-split; the splits are {', '.join(splits)}",
        )
    return found


def _part(rows: Dataset, split: Split, where: str) -> Dataset:
    chosen = split.rows(len(rows))
    if not chosen:
        raise DataError(
            f"no row of {where} is in the range asked for: it has {len(rows)}",
            hint="correct the range in --train-split or --val-split",
        )
    return rows if len(chosen) == len(rows) else rows.select(chosen)
