"""Models that timm builds: its registry, the hub and local directories in timm's format.

Weights come from safetensors only. timm itself falls back to a pickle when a repository has no
safetensors file, so the file is fetched here and handed to timm by its path.
"""

from collections.abc import Mapping
from typing import Any

import timm
from timm.data import resolve_model_data_config
from torch import nn

from ramda_cli.config.schema import ModelConfig
from ramda_cli.errors import ModelError, first_line
from ramda_cli.models.building import build_timm, check_arguments
from ramda_cli.models.loaded import LoadedModel, ModelSource, Preprocessing
from ramda_cli.models.randomness import example_images, seeded
from ramda_cli.models.timm_names import TimmModel, resolve
from ramda_cli.models.timm_weights import Weights, pretrained_weights
from ramda_cli.models.weights import load_weights_, tensor_shape

_DECIDED = ("num_classes", "in_chans", "img_size")


def load_timm(config: ModelConfig, *, image_size: int | None, seed: int) -> LoadedModel:
    """Resolve the name, build the architecture and load the weights.

    Raises:
        ModelError: the name is unknown, the weights cannot be had as safetensors or do not fit,
            or the architecture cannot take images of the size.
    """
    found = resolve(config.name)
    _require_free(found, config.arguments)
    arguments = _arguments(found, config, image_size)
    weights = None
    if config.weights is None and config.pretrained:
        weights = pretrained_weights(found)
    with seeded(seed):
        module = _create(found, arguments, weights, image_size)
    origin = weights.origin if weights is not None else "random initialization"
    if config.weights is not None:
        load_weights_(module, config.weights, model=config.name)
        origin = str(config.weights)
    preprocessing = _preprocessing(module, image_size)
    return LoadedModel(
        module=module.float().eval(),
        example_inputs=(example_images(preprocessing.input_size),),
        source=ModelSource("timm", found.name, arguments, weights=origin),
        preprocessing=preprocessing,
        num_classes=arguments["num_classes"],
        notes=_notes(found, arguments),
        license=str(found.cfg.license) if weights is not None and found.cfg.license else None,
    )


def _arguments(found: TimmModel, config: ModelConfig, image_size: int | None) -> dict[str, Any]:
    """Return every argument that rebuilding needs when only the architecture's name is known."""
    cfg = found.cfg
    channels, height, width = cfg.input_size
    arguments: dict[str, Any] = {"num_classes": cfg.num_classes, "in_chans": channels}
    if cfg.fixed_input_size:
        arguments["img_size"] = [height, width]
        if image_size is not None:
            arguments["img_size"] = [image_size, image_size]
    arguments |= {**found.arguments, **config.arguments}
    if config.weights is not None and isinstance(cfg.classifier, str):
        shape = tensor_shape(config.weights, f"{cfg.classifier}.weight")
        if shape:
            arguments["num_classes"] = shape[0]
    return arguments


def _require_free(found: TimmModel, arguments: Mapping[str, Any]) -> None:
    hint = "leave it out of model.arguments; weights are named with --weights"
    check_arguments(found.name, arguments, hint=hint)
    taken = next((key for key in arguments if key in _DECIDED), None)
    if taken is not None:
        raise ModelError(
            f"model.arguments.{taken} follows from the data and the weights",
            hint="leave it out; --image-size sets the size of the images",
        )


def _create(
    found: TimmModel,
    arguments: dict[str, Any],
    weights: Weights | None,
    image_size: int | None,
) -> nn.Module:
    try:
        if weights is None:
            return build_timm(found.name, arguments)
        cfg = found.cfg.to_dict()
        # `source` would send timm back to the hub, where it may take a pickle.
        return timm.create_model(
            found.name,
            pretrained=True,
            pretrained_cfg={**cfg, "source": None, "file": str(weights.path), "custom_load": False},
            **arguments,
        )
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        problem = first_line(error)
        size = f" for {image_size} x {image_size} images" if image_size is not None else ""
        origin = f" with the weights of {weights.origin}" if weights is not None else ""
        hint = "drop --image-size" if size else "RAMDA_DEBUG=1 shows the traceback"
        if "unexpected keyword" in problem:
            hint = "correct model.arguments"
        raise ModelError(
            f"timm cannot build {found.name}{size}{origin}: {problem}", hint=hint
        ) from error


def _preprocessing(module: nn.Module, image_size: int | None) -> Preprocessing:
    config = resolve_model_data_config(module)
    channels, height, width = config["input_size"]
    if image_size is not None:
        height = width = image_size
    return Preprocessing(
        input_size=(channels, height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        crop_pct=float(config["crop_pct"]),
    )


def _notes(found: TimmModel, arguments: dict[str, Any]) -> tuple[str, ...]:
    if arguments["num_classes"] == found.cfg.num_classes:
        return ()
    return (
        f"the weights have {arguments['num_classes']} classes instead of "
        f"{found.cfg.num_classes}, and so has the head",
    )
