"""The metric of a pruned model."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from torch import nn

from ramda_cli.config.schema import DataConfig
from ramda_cli.data.bundle import DataBundle
from ramda_cli.data.text.vocabulary import load_vocabulary
from ramda_cli.errors import DataError
from ramda_cli.export import load
from ramda_cli.file_header import read_header
from ramda_cli.models.loaded import (
    LoadedModel,
    ModelSource,
    SegmentPreprocessing,
    SpeechPreprocessing,
    TextPreprocessing,
)
from ramda_cli.models.model_config import Place
from ramda_cli.models.transformers_models import load_tokenizer, longest_text
from ramda_cli.pipeline.describing import Description, read_description
from ramda_cli.pipeline.devices import choose_device
from ramda_cli.pipeline.loading import load_data
from ramda_cli.tasks import EMBEDDING
from ramda_cli.training import evaluate as measure

_MOST_AT_ONCE: Final = 2**16


def evaluate(path: Path, data: DataConfig, *, device: str = "auto") -> dict[str, object]:
    """Measure a pruned model on the validation part of a data set.

    Examples are as many at once as in the run that wrote the file, where `data` does not say it.

    Raises:
        FileFormatError: the file cannot be loaded.
        DataError: the data cannot be read or has other classes.
        ModelError: the tokenizer is not beside the file.
    """
    header = read_header(path)
    described = read_description(path, header.get("details"))
    if described.task is EMBEDDING:
        raise DataError(
            f"{path} embeds texts, and what it is measured by is how near it is to the dense model",
            hint="its report has that figure",
        )
    if "eval_batch_size" not in data.model_fields_set:
        data = _as_in_its_run(data, header)
    where = choose_device(device)
    loaded = _loaded(path, load(path), described, data)
    bundle = load_data(data, loaded, seed=0)
    _require_classes(path, described, bundle, data.name)
    model = loaded.module.to(where)
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
        "notes": list(bundle.notes),
    }


def _as_in_its_run(data: DataConfig, header: Mapping[str, Any]) -> DataConfig:
    """Return the settings with the run's batch size, which the untrusted header may say.

    A figure may depend on it: by padding, or by the streams into which a text is cut.
    """
    match header:
        case {"report": {"reproducibility": {"config": {"data": {"eval_batch_size": int(size)}}}}}:
            return data.model_copy(update={"eval_batch_size": min(max(1, size), _MOST_AT_ONCE)})
        case _:
            return data


def _require_classes(path: Path, described: Description, bundle: DataBundle, name: str) -> None:
    hint = "evaluate it on data with the classes it was trained on"
    ours, theirs = described.labels, bundle.class_names
    if len(theirs) != len(ours):
        raise DataError(
            f"{path} tells {len(ours)} classes apart, {name} has {len(theirs)}", hint=hint
        )
    odd = next((each for each in theirs if each not in ours), None)
    if odd is not None and isinstance(described.preprocessing, TextPreprocessing):
        raise DataError(f"{path} knows no class {odd!r}", hint=hint)


def _loaded(path: Path, module: nn.Module, described: Description, data: DataConfig) -> LoadedModel:
    """Return the model with what reading its data takes."""
    preprocessing, tokenizer = described.preprocessing, None
    if isinstance(preprocessing, TextPreprocessing):
        if not hasattr(module, "config"):
            raise DataError(
                f"{path} is a graph, which does not say how its texts are read",
                hint="its report has the figure",
            )
        tokenizer = load_tokenizer(Place(str(path), folder=path.parent), module)
        most = longest_text(module)
        asked = data.max_length or preprocessing.max_length
        if most is not None and asked > most:
            raise DataError(
                f"{asked} tokens are more than the model takes: {most}",
                hint=f"give --max-length {most} or less",
            )
        if data.max_length is not None:
            preprocessing = replace(preprocessing, max_length=data.max_length)
    elif isinstance(preprocessing, SegmentPreprocessing):
        if not hasattr(module, "no_memory"):
            raise DataError(
                f"{path} is a graph, which takes no text in segments",
                hint="its report has the figure",
            )
        tokenizer = load_vocabulary(path.parent, module)
    elif isinstance(preprocessing, SpeechPreprocessing) and not hasattr(module, "generate"):
        raise DataError(
            f"{path} is a graph, which takes no other number of frames than it was exported for",
            hint="its report has the figure",
        )
    return LoadedModel(
        module=module,
        example_inputs=(),
        source=ModelSource("file", str(path)),
        preprocessing=preprocessing,
        num_classes=len(described.labels),
        task=described.task,
        tokenizer=tokenizer,
        labels=described.labels,
    )
