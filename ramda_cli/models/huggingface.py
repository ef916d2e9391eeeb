"""Building transformers architectures from their configuration, without network or pickle."""

import contextlib
import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn

from ramda_cli.errors import MODEL_FAILURES, ModelError, first_line
from ramda_cli.models.masks import apply_masks
from ramda_cli.models.weights import read_weights, require_fit

# These reach the hub, other libraries or code that is not transformers' own.
_REFUSED = frozenset(
    {
        "_attn_implementation",
        "attn_implementation",
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


ATTENTION = ("_attn_implementation", "attn_implementation")
"""Settings of how attention is computed, which is not what."""

_NAMELESS = re.compile(r"LABEL_\d+")


def build_huggingface(name: str, config: Mapping[str, Any]) -> nn.Module:
    """Build a transformers model class with random weights.

    Args:
        name: of the class, for example `LlamaForCausalLM`.
        config: what `PretrainedConfig.to_dict` gave.

    Raises:
        ModelError: transformers has no such model class, or a setting is not allowed.
    """
    found = _model_class(name, config)
    return found(_configured(found, config))


def load_huggingface(name: str, config: Mapping[str, Any], path: Path) -> nn.Module:
    """Build a transformers model class with the weights of a safetensors file, strictly.

    Older names of tensors are taken as transformers takes them, and the masks of
    `torch.nn.utils.prune` are applied. Nothing else is read, neither from disk nor from the hub.

    Raises:
        ModelError: as `build_huggingface`, or the tensors are not those of the model.
    """
    found = _model_class(name, config)
    state = apply_masks(read_weights(path))
    with _quiet():
        module, info = found.from_pretrained(
            None,
            config=_configured(found, config),
            state_dict=state,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            dtype=torch.float32,
        )
    require_fit(
        path,
        name,
        missing=sorted(info["missing_keys"]),
        unexpected=sorted(info["unexpected_keys"]),
        wrong_shape=sorted(str(one[0]) for one in info["mismatched_keys"]),
    )
    return module


def fill_huggingface(
    module: nn.Module, state: Mapping[str, Tensor], origin: str
) -> tuple[nn.Module, list[str]]:
    """Return a model of the same class and configuration with these weights.

    A head that is not among them, or has another shape there, keeps random weights, and a head
    among them that the class does not have is left out.

    Args:
        module: of transformers.
        state: tensors by their names, older names included.
        origin: of the tensors, for messages.

    Returns:
        The model, and what of it is new.

    Raises:
        ModelError: tensors of the model's body are missing, or do not fit.
    """
    kind: Any = type(module)
    with _quiet():
        filled, info = kind.from_pretrained(
            None,
            config=module.config,
            state_dict=dict(state),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,  # a file may hold more digits than its configuration says
        )
    missing = sorted(info["missing_keys"])
    wrong = sorted(str(one[0]) for one in info["mismatched_keys"])
    prefix = f"{kind.base_model_prefix}."
    has_head = any(name.startswith(prefix) for name, _ in module.named_parameters())

    left_out = sorted(info["unexpected_keys"])

    def in_body(name: str) -> bool:
        # A pooler belongs to a head: checkpoints of language models have none.
        return (name.startswith(prefix) or not has_head) and "pooler" not in name

    body = filled.get_submodule(prefix[:-1]) if has_head else filled
    parts = {name for name, _ in body.named_children()} - {"pooler"}

    def of_body(name: str) -> bool:
        # A head that the class does not have may be left out, a layer may not.
        return name.removeprefix(prefix).partition(".")[0] in parts

    require_fit(
        Path(origin),
        kind.__name__,
        missing=[name for name in missing if in_body(name)],
        unexpected=[name for name in left_out if of_body(name) and name.endswith(".weight")],
        wrong_shape=[name for name in wrong if in_body(name)],
    )
    return filled, sorted({*missing, *wrong})


def set_generation_(module: nn.Module, settings: Mapping[str, Any]) -> None:
    """Let a model generate by these settings, plain data alone, in place.

    Raises:
        ModelError: transformers does not take them.
    """
    from transformers import GenerationConfig

    library: Any = module
    if getattr(module, "generation_config", None) is None:
        return
    plain = {k: v for k, v in settings.items() if isinstance(v, bool | int | float | str | list)}
    try:
        library.generation_config = GenerationConfig.from_dict(plain)
    except MODEL_FAILURES as error:
        raise ModelError(
            f"the settings of generation are not valid: {first_line(error)}",
            hint="correct generation_config.json, or take it away",
        ) from error


def is_nameless(labels: Sequence[str]) -> bool:
    """Tell whether classes have the names that transformers gives where nobody named them."""
    return all(_NAMELESS.fullmatch(label) for label in labels)


def with_classes(module: nn.Module, labels: Sequence[str]) -> nn.Module:
    """Return the same model for these classes; its head is new where their number differs.

    Regression is one class without a name.
    """
    kind: Any = type(module)
    config: Any = copy.deepcopy(module.config)
    config.id2label = dict(enumerate(labels or ("LABEL_0",)))
    config.label2id = {label: number for number, label in config.id2label.items()}
    if not labels:
        config.problem_type = "regression"
    elif config.problem_type == "regression":
        config.problem_type = "single_label_classification"
    adapted = kind(config)
    expected = adapted.state_dict()
    old = module.state_dict()
    fitting = {n: t for n, t in old.items() if n in expected and expected[n].shape == t.shape}
    adapted.load_state_dict(fitting, strict=False)
    return adapted


def _model_class(name: str, config: Mapping[str, Any]) -> Any:
    import transformers

    refused = sorted(_refused_in(config))
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
    return found


def _configured(found: Any, config: Mapping[str, Any]) -> Any:
    try:
        return found.config_class.from_dict(dict(config))
    except StrictDataclassError as error:
        what = " ".join(str(error).split())
        raise ModelError(
            f"{found.__name__} does not take its configuration: {what}",
            hint="the file was damaged or made by hand; do not use it",
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's progress and reports off the terminal."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def describe_huggingface(model: nn.Module) -> tuple[str, dict[str, Any]] | None:
    """Return the class name and configuration of a transformers model, None of anything else."""
    if not type(model).__module__.startswith("transformers."):
        return None
    config = getattr(model, "config", None)
    if config is None:
        return None
    settings: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    settings["dtype"] = None  # that of the tensors
    return type(model).__name__, _without_refused(settings)


def _refused_in(value: object) -> set[str]:
    """Return the refused settings of a configuration and of those inside it."""
    if isinstance(value, Mapping):
        inside = (found for item in value.values() for found in _refused_in(item))
        return {*_REFUSED.intersection(value), *inside}
    if isinstance(value, list | tuple):
        return {found for item in value for found in _refused_in(item)}
    return set()


def _without_refused(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_refused(item) for k, item in value.items() if k not in _REFUSED}
    return [_without_refused(item) for item in value] if isinstance(value, list) else value
