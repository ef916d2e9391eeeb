"""Models that ship with RAMDA, weights included."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from torch import nn

from ramda_cli.config.schema import ModelConfig
from ramda_cli.models.digits_resnet import DIGITS_PREPROCESSING, DigitsResNet
from ramda_cli.models.loaded import LoadedModel, ModelSource, Preprocessing
from ramda_cli.models.randomness import example_images, seeded
from ramda_cli.models.weights import load_weights_


@dataclass(frozen=True)
class PackagedModel:
    """One such model.

    Attributes:
        factory: builds it; takes `num_classes`.
        weights: file name below `ramda_cli/models/pretrained`.
        preprocessing: what its images must look like.
        num_classes: outputs of the pretrained head.
        data: what it was trained on, for the report.
    """

    factory: Callable[..., nn.Module]
    weights: str
    preprocessing: Preprocessing
    num_classes: int
    data: str


PACKAGED: Mapping[str, PackagedModel] = {
    "digits-resnet": PackagedModel(
        factory=DigitsResNet,
        weights="digits-resnet.safetensors",
        preprocessing=DIGITS_PREPROCESSING,
        num_classes=10,
        data="the training split of the scikit-learn digits",
    ),
}


def pretrained_file(name: str) -> Path:
    """Return the packaged weights of a model; the package is installed as plain files."""
    folder = resources.files("ramda_cli.models") / "pretrained"
    return Path(str(folder / PACKAGED[name].weights))


def load_packaged(config: ModelConfig, *, image_size: int | None, seed: int) -> LoadedModel:
    """Load a packaged model with its own weights, those of `config.weights`, or none."""
    packaged = PACKAGED[config.name]
    with seeded(seed):
        module = packaged.factory(num_classes=packaged.num_classes)
    origin, terms = "random initialization", None
    if config.weights is not None:
        load_weights_(module, config.weights, model=config.name)
        origin = str(config.weights)
    elif config.pretrained:
        load_weights_(module, pretrained_file(config.name), model=config.name)
        origin = f"{packaged.weights} in ramda-cli, trained on {packaged.data}"
        terms = "apache-2.0"
    preprocessing = packaged.preprocessing
    if image_size is not None:
        channels = preprocessing.input_size[0]
        preprocessing = replace(preprocessing, input_size=(channels, image_size, image_size))
    return LoadedModel(
        module=module.eval(),
        example_inputs=(example_images(preprocessing.input_size),),
        source=ModelSource(
            "package", config.name, {"num_classes": packaged.num_classes}, weights=origin
        ),
        preprocessing=preprocessing,
        num_classes=packaged.num_classes,
        license=terms,
    )
