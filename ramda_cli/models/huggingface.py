"""Building transformers architectures from their configuration, without weights or network."""

import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from ramda_cli.errors import ModelError

# These reach the hub, other libraries or code that is not transformers' own.
_REFUSED = frozenset(
    {
        "auto_map",
        "backbone",
        "backbone_config",
        "backbone_kwargs",
        "custom_pipelines",
        "quantization_config",
        "use_pretrained_backbone",
        "use_timm_backbone",
    }
)


def build_huggingface(name: str, config: Mapping[str, Any]) -> nn.Module:
    """Build a transformers model class with random weights.

    Args:
        name: of the class, for example `LlamaForCausalLM`.
        config: what `PretrainedConfig.to_dict` gave.

    Raises:
        ModelError: transformers has no such model class, or a setting is not allowed.
    """
    import transformers

    refused = sorted(_REFUSED.intersection(config))
    if refused:
        raise ModelError(
            f"the setting {refused[0]!r} of {name} is not allowed in a model description",
            hint="the file was damaged or made by hand; do not use it",
        )
    found = getattr(transformers, name, None) if name.isidentifier() else None
    if not isinstance(found, type) or not issubclass(found, transformers.PreTrainedModel):
        raise ModelError(
            f"transformers {transformers.__version__} has no model class {name!r}",
            hint="install the transformers version that the file names, or a newer one",
        )
    if found.config_class is None:
        raise ModelError(f"{name} has no configuration class", hint="name a model class")
    return found(found.config_class.from_dict(dict(config)))


def describe_huggingface(model: nn.Module) -> tuple[str, dict[str, Any]] | None:
    """Return the class name and configuration of a transformers model, None of anything else."""
    if not type(model).__module__.startswith("transformers."):
        return None
    config = getattr(model, "config", None)
    if config is None:
        return None
    settings: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    settings["dtype"] = None  # that of the tensors
    kept = {key: value for key, value in settings.items() if key not in _REFUSED}
    return type(model).__name__, kept
