"""The accuracy of a pruned model."""

import time
from pathlib import Path

from timm.data.transforms import str_to_interp_mode

from ramda_cli.config.schema import DataConfig
from ramda_cli.data.build import build_data
from ramda_cli.errors import DataError, FileFormatError
from ramda_cli.export import load
from ramda_cli.file_header import read_header
from ramda_cli.models.loaded import Preprocessing
from ramda_cli.pipeline.devices import choose_device
from ramda_cli.training import evaluate as measure

_LARGEST_SIDE = 4096


def evaluate(path: Path, data: DataConfig, *, device: str = "auto") -> dict[str, object]:
    """Measure a pruned model on the validation part of a data set.

    Raises:
        FileFormatError: the file cannot be loaded.
        DataError: the data cannot be read or has other classes.
    """
    details = read_header(path).get("details")
    preprocessing, classes = read_details(path, details)
    bundle = build_data(data, preprocessing, seed=0)
    if len(bundle.class_names) != classes:
        raise DataError(
            f"{path} tells {classes} classes apart, {data.name} has {len(bundle.class_names)}",
            hint="evaluate it on data with the classes it was trained on",
        )
    where = choose_device(device)
    model = load(path).to(where)
    started = time.monotonic()
    value = measure(model, bundle.task, bundle.val, device=where)
    return {
        "file": str(path),
        "data": bundle.description,
        "metric": bundle.task.metric.name,
        "value": value,
        "is_share": bundle.task.metric.is_share,
        "unit": bundle.unit,
        "examples": bundle.val_size,
        "seconds": time.monotonic() - started,
    }


def read_details(path: Path, details: object) -> tuple[Preprocessing, int]:
    """Return what the images of a file must look like, and how many classes it tells apart.

    Raises:
        FileFormatError: the file does not say it.
    """
    try:
        if not isinstance(details, dict):
            raise TypeError("no details")
        stored = details["preprocessing"]
        preprocessing = Preprocessing(
            input_size=tuple(int(size) for size in stored["input_size"]),  # type: ignore[arg-type]
            mean=tuple(float(value) for value in stored["mean"]),
            std=tuple(float(value) for value in stored["std"]),
            interpolation=str(stored["interpolation"]),
            crop_pct=float(stored["crop_pct"]),
        )
        _check_preprocessing(preprocessing)
        return preprocessing, len(details["labels"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FileFormatError(
            f"{path} does not say what its images must look like",
            hint="write it with `ramda prune`; `ramda_cli.save` alone does not record it",
        ) from error


def _check_preprocessing(stored: Preprocessing) -> None:
    channels, height, width = stored.input_size
    sizes = channels in (1, 3) and 1 <= min(height, width) <= max(height, width) <= _LARGEST_SIDE
    per_channel = len(stored.mean) == len(stored.std) == channels and min(stored.std) > 0
    if not sizes or not per_channel or not 0 < stored.crop_pct <= 1:
        raise ValueError("a value is out of range")
    str_to_interp_mode(stored.interpolation)
