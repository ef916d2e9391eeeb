"""A configuration from a YAML file, flags over it, and `--set` over both."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ramda_cli.config.overrides import assign, parse_sets
from ramda_cli.config.problems import config_error
from ramda_cli.config.schema import RunConfig
from ramda_cli.config.targets import parse_targets
from ramda_cli.config.yaml_text import format_yaml, parse_yaml
from ramda_cli.errors import ConfigError

_Section = TypeVar("_Section", bound=BaseModel)


def load_config(
    path: Path | None, overrides: Mapping[str, object], sets: Sequence[str]
) -> RunConfig:
    """Return the configuration of a run.

    A target over a file that gives a weight replaces the weight, and the other way round.

    Args:
        path: a YAML file; relative paths in it start at the working directory.
        overrides: dotted key to value; None means the flag was not given.
        sets: `KEY=VALUE` items, which win over `overrides`.

    Raises:
        ConfigError: if a key is unknown, or a value has the wrong type or range.
    """
    document = {} if path is None else read_document(path)
    if "methods" in document:
        raise ConfigError(
            f"{path} compares methods, and is no run",
            hint=f"`ramda compare {path}` runs them; for one, take its settings out of methods",
        )
    return build_config(document, overrides, sets)


def build_config(
    document: dict[str, Any], overrides: Mapping[str, object], sets: Sequence[str]
) -> RunConfig:
    """Return the configuration of a document as a file holds it; the rest as `load_config`."""
    document = copy.deepcopy(document)
    _expand_target(document)
    given = {key: value for key, value in overrides.items() if value is not None}
    given |= parse_sets(sets)
    _drop_replaced(document, given)
    for key, value in given.items():
        assign(document, key, value)
        _expand_target(document)
    # Present even when empty, so that what is missing is named as model.name and data.name.
    for section in ("model", "data"):
        document.setdefault(section, {})
    try:
        return RunConfig.model_validate(document)
    except ValidationError as error:
        raise config_error(error) from error


def load_section(section: type[_Section], name: str, values: Mapping[str, object]) -> _Section:
    """Return one section, for commands that need no whole run.

    Args:
        section: its class, for example `DataConfig`.
        name: its key in a `RunConfig`, for the errors.
        values: field to value; None means the flag was not given.

    Raises:
        ConfigError: as `load_config`.
    """
    given = {key: value for key, value in values.items() if value is not None}
    try:
        return section.model_validate(given)
    except ValidationError as error:
        raise config_error(error, section=name) from error


def dump_config(config: RunConfig) -> str:
    """Return every setting as YAML that `load_config` reads back to an equal `RunConfig`."""
    return format_yaml(config.model_dump(mode="json"))


def flat_settings(config: RunConfig) -> dict[str, Any]:
    """Return every setting by its dotted key, as `--set` has it."""
    return dict(_flat(config.model_dump(mode="json")))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def read_document(path: Path) -> dict[str, Any]:
    """Return what a YAML file holds, unchecked.

    Raises:
        ConfigError: it cannot be read, or holds no settings.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"config file not found: {path}", hint="check the path given to --config"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"config file {path} cannot be read: {reason}", hint="--config needs a YAML file"
        ) from error
    document = parse_yaml(text, source=str(path))
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(
            f"config file {path} must hold sections such as model and data",
            hint="for example `training:` and under it `  epochs: 5`",
        )
    # A section whose settings are all commented out reads as null.
    return {str(key): value for key, value in document.items() if value is not None}


def _expand_target(document: dict[str, Any]) -> None:
    """Turn `target: macs=0.5`, or a list of such, into amounts by metric, in place."""
    target = document.get("target")
    written = [target] if isinstance(target, str) else target
    if isinstance(written, list) and all(isinstance(text, str) for text in written):
        document["target"] = parse_targets(written)


def _drop_replaced(document: dict[str, Any], given: Mapping[str, object]) -> None:
    """Remove the file's target or weight where a flag asks the other way, in place."""
    named = {key for key, value in given.items() if value is not None}
    target = any(key.partition(".")[0] == "target" for key in named)
    weight = "training.weight" in named
    training = document.get("training")
    if weight and not target:
        document.pop("target", None)
    elif target and not weight and isinstance(training, dict):
        training.pop("weight", None)
