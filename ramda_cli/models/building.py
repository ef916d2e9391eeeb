"""Building a dense architecture again from what a file says of it, without weights or network."""

from collections.abc import Callable, Mapping
from typing import Any

import timm
from torch import nn

from ramda_cli.errors import ModelError
from ramda_cli.models.heads import replace_head_
from ramda_cli.models.huggingface import build_huggingface
from ramda_cli.models.loaded import ModelSource
from ramda_cli.models.packaged import build_packaged
from ramda_cli.models.randomness import seeded

_DAMAGED = "the file was damaged or made by hand; do not use it"

# These reach files, the network or other code than the architecture's own.
_REFUSED_ARGUMENTS = frozenset(
    {
        "cache_dir",
        "checkpoint_path",
        "feature_cfg",
        "features_only",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "pretrained_filter_fn",
        "pretrained_model_args",
        "scriptable",
    }
)


def build_module(
    source: ModelSource, *, factory: Callable[[], nn.Module] | None = None
) -> nn.Module:
    """Build the architecture of `source` with random weights, in eval mode.

    Runs under `torch.device("meta")` as well. A source is untrusted: only registered timm
    architectures, transformers' own classes, both with plain arguments, and models of this package
    are built from its text alone.

    Args:
        source: what loading recorded.
        factory: the factory of a `file` source, which the caller trusts; its code is never
            looked up from the source.

    Raises:
        ModelError: the source is not known to this installation, or it needs the factory.
    """
    arguments = dict(source.arguments)
    with seeded(0):
        if source.kind == "file":
            return _from_factory(source, factory).eval()
        if source.kind == "package":
            _check_plain(source.name, arguments)
            return build_packaged(source.name, arguments, hint="update ramda-cli").eval()
        if source.kind == "huggingface":
            _check_plain(source.name, arguments)
            return build_huggingface(source.name, arguments).eval()
        return build_timm(source.name, arguments).eval()


def build_timm(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build a registered timm architecture with random weights.

    Raises:
        ModelError: timm does not have it, or an argument is not allowed.
    """
    check_arguments(name, arguments)
    if not timm.is_model(name):
        raise ModelError(
            f"timm {timm.__version__} has no model {name!r}",
            hint="install the timm version that the file names, or a newer one",
        )
    return timm.create_model(name, pretrained=False, **arguments)


def check_arguments(name: str, arguments: Mapping[str, Any], *, hint: str = _DAMAGED) -> None:
    """Refuse constructor arguments that are not plain data, or that reach outside.

    Args:
        name: of the model.
        arguments: of its constructor.
        hint: for whoever gave them; a file has them from when it was made.

    Raises:
        ModelError: naming the first such argument.
    """
    _check_plain(name, arguments, refused=_REFUSED_ARGUMENTS, hint=hint)


def _check_plain(
    name: str,
    arguments: Mapping[str, Any],
    *,
    refused: frozenset[str] = frozenset(),
    hint: str = _DAMAGED,
) -> None:
    for key, value in arguments.items():
        if key in refused or not _is_plain(value):
            raise ModelError(
                f"the argument {key!r} of {name} is not allowed in a model description",
                hint=hint,
            )


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, bool | int | float | str)


def _from_factory(source: ModelSource, factory: Callable[[], nn.Module] | None) -> nn.Module:
    if factory is None:
        raise ModelError(
            f"this model was built by {source.name}, and RAMDA does not run code that a file names",
            hint="pass the factory yourself if you trust it: its code is needed to build the model",
        )
    module = factory()
    if "head" in source.arguments:
        replace_head_(module, source.arguments["head"], int(source.arguments["num_classes"]))
    return module
