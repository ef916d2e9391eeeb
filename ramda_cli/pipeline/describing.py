"""What the header of a file says of its inputs and outputs, and reading it back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from timm.data.transforms import str_to_interp_mode
from torch import nn

from ramda_cli.errors import FileFormatError, ModelError
from ramda_cli.models.loaded import (
    AnyPreprocessing,
    Masking,
    Preprocessing,
    SegmentPreprocessing,
    SpeechPreprocessing,
    TextPreprocessing,
)
from ramda_cli.models.transformers_tasks import task_called
from ramda_cli.tasks import (
    IMAGE_CLASSIFICATION,
    LANGUAGE_MODELING,
    MASKED_IMAGE_MODELING,
    REGRESSION,
    TEXT_TO_SPEECH,
    Task,
)

_LARGEST_SIDE = 4096
_MOST_TOKENS = 2**20
_MOST_CHARACTERS = 2**16
_MOST_SAMPLES = 2**20
_INPUTS = {"input_ids", "token_type_ids", "attention_mask", "decoder_input_ids"}


@dataclass(frozen=True)
class Description:
    """What a model is for.

    Attributes:
        task: of it.
        labels: names of its classes.
        preprocessing: what its inputs must look like.
    """

    task: Task
    labels: tuple[str, ...]
    preprocessing: AnyPreprocessing


def describe(
    task: Task,
    labels: Sequence[str],
    preprocessing: AnyPreprocessing,
    module: nn.Module | None = None,
) -> dict[str, Any]:
    """Return facts for a header, in plain JSON; a module may say how it generates."""
    generation: Any = getattr(module, "generation_config", None)
    generates = {} if generation is None else {"generation": generation.to_diff_dict()}
    return generates | {
        "task": task.name,
        "metric": task.metric.hub_id,
        "labels": list(labels),
        "preprocessing": {k: v for k, v in asdict(preprocessing).items() if v is not None},
    }


def read_description(path: Path, details: object) -> Description:
    """Return what a header says of a model; it is untrusted.

    Raises:
        FileFormatError: it does not say it, or a value is out of range.
    """
    try:
        if not isinstance(details, Mapping):
            raise TypeError("no details")
        stored = details["preprocessing"]
        task = task_called(str(details.get("task", "image-classification")))
        if details.get("metric") == REGRESSION.metric.hub_id:
            task = REGRESSION
        labels = tuple(str(label) for label in details["labels"])
        read = _READERS.get(task.name, _texts)
        preprocessing = read(stored)
        if (stored.get("masking") is not None) != (task is MASKED_IMAGE_MODELING):
            raise ValueError("the task does not go with the inputs")
    except (KeyError, TypeError, ValueError, OverflowError, ModelError) as error:
        raise FileFormatError(
            f"{path} does not say what its inputs must look like",
            hint="write it with `ramda prune`; `ramda_cli.save` alone does not record it",
        ) from error
    return Description(task, labels, preprocessing)


def _segments(stored: Mapping[str, Any]) -> SegmentPreprocessing:
    lengths = int(stored["segment_length"]), int(stored["memory_length"])
    if not (1 <= lengths[0] <= _MOST_TOKENS and 0 <= lengths[1] <= _MOST_TOKENS):
        raise ValueError("a value is out of range")
    return SegmentPreprocessing(*lengths)


def _texts(stored: Mapping[str, Any]) -> TextPreprocessing:
    length, inputs = int(stored["max_length"]), tuple(str(name) for name in stored["inputs"])
    if not 1 <= length <= _MOST_TOKENS or "input_ids" not in inputs or not set(inputs) <= _INPUTS:
        raise ValueError("a value is out of range")
    return TextPreprocessing(length, inputs)


def _speech(stored: Mapping[str, Any]) -> SpeechPreprocessing:
    preprocessing = SpeechPreprocessing(
        characters=str(stored["characters"]),
        n_mels=int(stored["n_mels"]),
        sampling_rate_hz=int(stored["sampling_rate_hz"]),
        n_fft=int(stored["n_fft"]),
        hop=int(stored["hop"]),
        min_hz=float(stored["min_hz"]),
        max_hz=float(stored["max_hz"]),
    )
    counts = (preprocessing.n_mels, preprocessing.hop, preprocessing.sampling_rate_hz)
    in_range = (
        1 <= len(preprocessing.characters) <= _MOST_CHARACTERS
        and 1 <= min(counts) <= max(counts) <= _MOST_SAMPLES
        and preprocessing.n_mels <= preprocessing.n_fft <= _MOST_SAMPLES
        and 0 <= preprocessing.min_hz < preprocessing.max_hz <= preprocessing.sampling_rate_hz / 2
    )
    if not in_range:
        raise ValueError("a value is out of range")
    return preprocessing


def _images(stored: Mapping[str, Any]) -> Preprocessing:
    preprocessing = Preprocessing(
        input_size=tuple(int(size) for size in stored["input_size"]),  # type: ignore[arg-type]
        mean=tuple(float(value) for value in stored["mean"]),
        std=tuple(float(value) for value in stored["std"]),
        interpolation=str(stored["interpolation"]),
        crop_pct=float(stored["crop_pct"]),
        masking=None if stored.get("masking") is None else _masking(stored["masking"]),
    )
    channels, height, width = preprocessing.input_size
    sizes = channels in (1, 3) and 1 <= min(height, width) <= max(height, width) <= _LARGEST_SIDE
    per_channel = len(preprocessing.mean) == len(preprocessing.std) == channels
    if not sizes or not per_channel or min(preprocessing.std) <= 0:
        raise ValueError("a value is out of range")
    if not 0 < preprocessing.crop_pct <= 1:
        raise ValueError("a value is out of range")
    str_to_interp_mode(preprocessing.interpolation)
    masking = preprocessing.masking
    if masking is not None and (height != width or height % masking.square):
        raise ValueError("the squares do not fit the image")
    return preprocessing


def _masking(stored: Mapping[str, Any]) -> Masking:
    masking = Masking(int(stored["patch_size"]), int(stored["square"]), float(stored["ratio"]))
    if masking.patch_size < 1 or masking.square < 1 or masking.square % masking.patch_size:
        raise ValueError("the patches do not fit the squares")
    if not 0 < masking.ratio <= 1:
        raise ValueError("a value is out of range")
    return masking


_READERS: Mapping[str, Callable[[Mapping[str, Any]], AnyPreprocessing]] = {
    IMAGE_CLASSIFICATION.name: _images,
    LANGUAGE_MODELING.name: _segments,
    MASKED_IMAGE_MODELING.name: _images,
    TEXT_TO_SPEECH.name: _speech,
}
"""By task; the others read texts."""
