"""The model and the data of a run, which fit each other."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from ramda_cli.config.schema import DataConfig, RunConfig, TrainingConfig
from ramda_cli.data.build import build_data
from ramda_cli.data.bundle import DataBundle
from ramda_cli.data.masked_images import with_masks
from ramda_cli.data.speech import build_speech
from ramda_cli.data.text import TextBatches, build_segments, build_texts
from ramda_cli.errors import ConfigError, DataError
from ramda_cli.models.heads import adapt_head, adapt_labels
from ramda_cli.models.loaded import (
    LoadedModel,
    Preprocessing,
    SegmentPreprocessing,
    SpeechPreprocessing,
    TextPreprocessing,
)
from ramda_cli.models.loading import load_model
from ramda_cli.observer import Observer, SilentObserver
from ramda_cli.pipeline.devices import choose_device
from ramda_cli.structure.export import evaluation_mode
from ramda_cli.tasks import (
    EMBEDDING,
    IMAGE_CLASSIFICATION,
    LANGUAGE_MODELING,
    REGRESSION,
    TEXT_TO_SPEECH,
    Classification,
    Task,
    call,
)
from ramda_cli.tasks.inputs import moved


def load_run(config: RunConfig, observer: Observer | None = None) -> tuple[LoadedModel, DataBundle]:
    """Load model and data, and fit the head to the classes of the data.

    A model that embeds texts aims at its own embeddings, as they are before training.

    Raises:
        ConfigError: labels are to be smoothed or mixed, and there are none.
        DataError: the data cannot be read or matched to the model.
        ModelError: the model cannot be loaded.
    """
    seed = config.training.seed
    torch.manual_seed(seed)
    loaded = load_model(
        config.model,
        image_size=config.data.image_size,
        max_length=config.data.max_length,
        seed=seed,
    )
    if isinstance(loaded.preprocessing, Preprocessing):
        # What is hidden in training is hidden whenever the model is measured.
        loaded = replace(loaded, preprocessing=with_masks(loaded.preprocessing, config.data))
    training = config.training
    batches = None
    if training.max_steps is not None:
        batches = training.max_steps // training.epochs * training.accumulate
    data = load_data(config.data, loaded, seed=seed, batches=batches)
    _require_classes(training, data.task)
    if loaded.task is EMBEDDING:
        device = choose_device(config.training.device)
        _aim_at_embeddings(loaded.module, data, device, observer or SilentObserver())
    if data.tokenizer is not None:
        loaded = replace(loaded, tokenizer=data.tokenizer)
    return fit_head(loaded, data, seed=seed), data


def _require_classes(training: TrainingConfig, task: Task) -> None:
    if training.label_smoothing and not isinstance(task, Classification):
        raise ConfigError(
            "training.label_smoothing does nothing to this loss, which is of no class logits",
            hint="leave it out",
        )
    if (training.mixup or training.cutmix) and task is not IMAGE_CLASSIFICATION:
        raise ConfigError(
            "training.mixup and cutmix mix images that have classes, and this data has none",
            hint="leave them out",
        )


def load_data(
    config: DataConfig, loaded: LoadedModel, *, seed: int, batches: int | None = None
) -> DataBundle:
    """Open the data that a model's task needs: images, speech, or texts, some of them streamed."""
    if isinstance(loaded.preprocessing, SpeechPreprocessing):
        return build_speech(config, loaded.preprocessing, seed=seed)
    if isinstance(loaded.preprocessing, SegmentPreprocessing):
        return build_segments(config, loaded)
    if isinstance(loaded.preprocessing, TextPreprocessing):
        return build_texts(config, loaded, seed=seed, batches=batches)
    return build_data(config, loaded.preprocessing, seed=seed)


def fit_head(loaded: LoadedModel, data: DataBundle, *, seed: int) -> LoadedModel:
    """Return a model that tells the classes of the data apart; of transformers, by their names."""
    if data.task in (LANGUAGE_MODELING, TEXT_TO_SPEECH):
        return loaded
    if loaded.source.kind != "huggingface":
        return adapt_head(loaded, len(data.class_names), seed=seed)
    if not data.class_names and data.task is not REGRESSION:
        return loaded
    # Classes of images are told apart by their place, as everywhere with images.
    images = data.task is IMAGE_CLASSIFICATION
    return adapt_labels(loaded, data.class_names, seed=seed, by_position=images)


@torch.no_grad()
def _aim_at_embeddings(
    module: nn.Module, data: DataBundle, device: torch.device, observer: Observer
) -> None:
    """Give every text its embedding by the model as it is for a target."""
    module.to(device)
    with evaluation_mode(module):
        for name, batches in (("training", data.train), ("validation", data.val)):
            if not isinstance(batches, TextBatches):
                raise DataError(
                    "texts are embedded, and these are none",
                    hint="name another --task, such as image-classification",
                )
            observer.stage("embed", f"the {name} texts, by the dense model")

            def embed(inputs: object) -> Tensor:
                return call(EMBEDDING, module, moved(inputs, device)).cpu()  # type: ignore[arg-type]

            batches.aim_at(torch.cat([embed(inputs) for inputs in batches.in_order()]))
    module.to("cpu")
