"""Recognising how a module was built, so that a file can build it again."""

from typing import Any

import timm
from torch import nn

from ramda_cli.errors import ModelError
from ramda_cli.models.building import build_module
from ramda_cli.models.huggingface import describe_huggingface
from ramda_cli.models.loaded import ModelSource


def infer_source(model: nn.Module) -> ModelSource | None:
    """Return how timm or transformers builds this architecture, None when it is not sure.

    What is read off the model is believed only if building it gives a module that prints the same
    and has the same tensors.
    """
    source = _from_config(model) or _from_architecture(model)
    if source is None:
        return None
    try:
        built = build_module(source)
    except (ModelError, TypeError, ValueError, RuntimeError):
        return None
    return source if _same_architecture(model, built) else None


def _from_config(model: nn.Module) -> ModelSource | None:
    described = describe_huggingface(model)
    return None if described is None else ModelSource("huggingface", *described)


def _from_architecture(model: nn.Module) -> ModelSource | None:
    name = _architecture(model)
    if name is None or not timm.is_model(name):
        return None
    classes = getattr(model, "num_classes", None)
    arguments: dict[str, Any] = {"num_classes": classes} if isinstance(classes, int) else {}
    return ModelSource("timm", name, arguments)


def _architecture(model: nn.Module) -> str | None:
    for attribute in ("pretrained_cfg", "default_cfg"):
        config = getattr(model, attribute, None)
        name = config.get("architecture") if isinstance(config, dict) else None
        if isinstance(name, str):
            return name
    return None


def _same_architecture(one: nn.Module, other: nn.Module) -> bool:
    if type(one) is not type(other) or repr(one) != repr(other):
        return False
    shapes = [{name: t.shape for name, t in m.state_dict().items()} for m in (one, other)]
    return shapes[0] == shapes[1]
