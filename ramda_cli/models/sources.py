"""Recognising how a module was built, so that a file can build it again."""

from typing import Any

import timm
from torch import nn

from ramda_cli.errors import ModelError
from ramda_cli.models.building import build_module
from ramda_cli.models.loaded import ModelSource


def infer_source(model: nn.Module) -> ModelSource | None:
    """Return the timm call that builds this architecture, or None when there is none for sure.

    The architecture's name and class count are read off the model, and believed only if building
    it gives a module that prints the same and has the same tensors.
    """
    name = _architecture(model)
    if name is None or not timm.is_model(name):
        return None
    arguments: dict[str, Any] = {}
    classes = getattr(model, "num_classes", None)
    if isinstance(classes, int):
        arguments["num_classes"] = classes
    source = ModelSource("timm", name, arguments)
    try:
        built = build_module(source)
    except (ModelError, TypeError, ValueError, RuntimeError):
        return None
    return source if _same_architecture(model, built) else None


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
