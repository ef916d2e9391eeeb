"""Models that ship with RAMDA: small ones with weights, and some that no library has any more."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from torch import nn

from ramda_cli.config.schema import ModelConfig
from ramda_cli.errors import ModelError, first_line
from ramda_cli.models.digits_resnet import DIGITS_PREPROCESSING, DigitsResNet
from ramda_cli.models.loaded import (
    AnyPreprocessing,
    LoadedModel,
    ModelSource,
    Preprocessing,
    SegmentPreprocessing,
    SpeechPreprocessing,
)
from ramda_cli.models.randomness import example_images, seeded
from ramda_cli.models.tacotron2 import CHARACTERS, Tacotron2
from ramda_cli.models.transformer_xl import TransformerXL
from ramda_cli.models.weights import load_weights_
from ramda_cli.tasks import IMAGE_CLASSIFICATION, LANGUAGE_MODELING, TEXT_TO_SPEECH, Task
from ramda_cli.tasks.inputs import ExampleInputs


@dataclass(frozen=True)
class PackagedModel:
    """One such model.

    Attributes:
        factory: builds it from keyword arguments.
        preprocessing: what the inputs of a module must look like.
        example_inputs: a batch of 2 for a module.
        arguments: those of the factory that are given, unless others are.
        task: what it is for.
        weights: file name below `ramda_cli/models/pretrained`, where there is one.
        data: what those were trained on, for the report.
    """

    factory: Callable[..., nn.Module]
    preprocessing: Callable[[Any], AnyPreprocessing]
    example_inputs: Callable[[Any], ExampleInputs]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    task: Task = IMAGE_CLASSIFICATION
    weights: str | None = None
    data: str = ""


def _digits_resnet(num_classes: int) -> DigitsResNet:
    return DigitsResNet(num_classes)


PACKAGED: Mapping[str, PackagedModel] = {
    "digits-resnet": PackagedModel(
        factory=_digits_resnet,
        preprocessing=lambda module: DIGITS_PREPROCESSING,
        example_inputs=lambda module: (example_images(DIGITS_PREPROCESSING.input_size),),
        arguments={"num_classes": 10},
        weights="digits-resnet.safetensors",
        data="the training split of the scikit-learn digits",
    ),
    "transformer-xl": PackagedModel(
        factory=TransformerXL,
        preprocessing=lambda module: SegmentPreprocessing(module.tgt_len, module.mem_len),
        example_inputs=lambda module: module.example_inputs(),
        task=LANGUAGE_MODELING,
    ),
    "tacotron2": PackagedModel(
        factory=Tacotron2,
        preprocessing=lambda module: SpeechPreprocessing(
            CHARACTERS, n_mels=module.decoder.frame.out_features
        ),
        example_inputs=lambda module: module.example_inputs(),
        task=TEXT_TO_SPEECH,
    ),
}


def pretrained_file(name: str) -> Path:
    """Return the packaged weights of a model; the package is installed as plain files."""
    weights = PACKAGED[name].weights
    if weights is None:
        raise ValueError(f"{name} has no packaged weights")
    return Path(str(resources.files("ramda_cli.models") / "pretrained" / weights))


def build_packaged(name: str, arguments: Mapping[str, Any], *, hint: str) -> nn.Module:
    """Build a packaged model with random weights.

    Args:
        name: of it.
        arguments: of its constructor, plain data.
        hint: for whoever gave them.

    Raises:
        ModelError: there is none of that name, or it takes no such arguments.
    """
    if name not in PACKAGED:
        raise ModelError(f"this version of RAMDA ships no model {name!r}", hint=hint)
    try:
        return PACKAGED[name].factory(**arguments)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{name} cannot be built with such arguments: {first_line(error)}", hint=hint
        ) from error


def load_packaged(config: ModelConfig, *, image_size: int | None, seed: int) -> LoadedModel:
    """Load a packaged model with its own weights, those of `config.weights`, or none.

    Raises:
        ModelError: it takes no such arguments, or the weights are not usable.
    """
    packaged = PACKAGED[config.name]
    arguments = {**packaged.arguments, **config.arguments}
    with seeded(seed):
        module = build_packaged(
            config.name,
            arguments,
            hint="model.arguments are those of its class in ramda_cli.models",
        )
    origin, terms = "random initialization", None
    if config.weights is not None:
        load_weights_(module, config.weights, model=config.name)
        origin = str(config.weights)
    elif config.pretrained and packaged.weights is not None:
        load_weights_(module, pretrained_file(config.name), model=config.name)
        origin = f"{packaged.weights} in ramda-cli, trained on {packaged.data}"
        terms = "apache-2.0"
    module = module.eval()
    preprocessing, example = packaged.preprocessing(module), packaged.example_inputs(module)
    if image_size is not None and isinstance(preprocessing, Preprocessing):
        channels = preprocessing.input_size[0]
        preprocessing = replace(preprocessing, input_size=(channels, image_size, image_size))
        example = (example_images(preprocessing.input_size),)
    return LoadedModel(
        module=module,
        example_inputs=example,
        source=ModelSource("package", config.name, arguments, weights=origin),
        preprocessing=preprocessing,
        num_classes=arguments.get("num_classes", 0),
        license=terms,
        task=packaged.task,
    )
