"""What is wrong with a setting, in one line: its key, its range and its value."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import ValidationError

from ramda_cli.config.schema import RunConfig
from ramda_cli.config.suggestions import closest
from ramda_cli.errors import ConfigError

_LONGEST_VALUE = 60
_REQUIRED = {
    "model.name": "give MODEL, for example `ramda prune resnet50 ...`, or model.name in the config",
    "data.name": "give --data, for example --data digits, or data.name in the config",
}


def config_error(error: ValidationError, *, section: str = "") -> ConfigError:
    """Return the first problem of `error` as one line and a hint.

    Args:
        error: from validating a `RunConfig`, or one of its sections.
        section: the name of that section.
    """
    first = error.errors(include_url=False)[0]
    parts = [section] if section else []
    parts += [str(part) for part in first["loc"] if not isinstance(part, int)]
    key = ".".join(parts)
    if first["type"] == "extra_forbidden":
        return _unknown(key)
    found = _find(parts)
    if first["type"] == "missing":
        hint = _REQUIRED.get(key, f"{key} is {_expectation(found)}")
        return ConfigError(f"{key} is required", hint=hint)
    default = found.get("default")
    hint = "leave it out for the default" if default is None else f"the default is {_show(default)}"
    return ConfigError(
        f"{key} must be {_expectation(found)}, got {_show(first['input'])}",
        hint=_REQUIRED.get(key, hint),
    )


@cache
def known_keys() -> tuple[str, ...]:
    """Return every dotted key of a configuration, sections included."""
    schema = RunConfig.model_json_schema()
    keys: list[str] = []
    for section in schema["properties"]:
        inner = _find([section])["properties"]
        keys += [section, *(f"{section}.{name}" for name in inner)]
    return tuple(keys)


def _unknown(key: str) -> ConfigError:
    meant = closest(key, known_keys())
    if meant:
        return ConfigError(f"unknown setting {key!r}", hint=f"did you mean {meant!r}?")
    section = key.rpartition(".")[0]
    siblings = [name for name in known_keys() if name.rpartition(".")[0] == section]
    where = f"{section} has" if section else "the sections are"
    names = ", ".join(name.rpartition(".")[2] for name in siblings)
    return ConfigError(f"unknown setting {key!r}", hint=f"{where} {names}")


def _find(parts: Sequence[str]) -> Mapping[str, Any]:
    """Return the JSON schema of a key, with the section it refers to in place."""
    root = RunConfig.model_json_schema()
    node: Mapping[str, Any] = root
    for part in parts:
        node = node["properties"][part]
        choices = [node, *node.get("anyOf", ())]
        reference = next((choice["$ref"] for choice in choices if "$ref" in choice), None)
        if reference is not None:
            node = root["$defs"][reference.rpartition("/")[2]]
    return node


def _expectation(schema: Mapping[str, Any]) -> str:
    """Say in words what a JSON schema accepts."""
    if "properties" in schema:
        return "a section of settings"
    if "anyOf" in schema:
        return _expectation(schema["anyOf"][0])
    if "description" in schema:
        return str(schema["description"])
    if "enum" in schema:
        return "one of " + ", ".join(str(choice) for choice in schema["enum"])
    match schema["type"]:
        case "integer":
            return "an integer" + _range(schema)
        case "number":
            return "a number" + _range(schema)
        case "boolean":
            return "true or false"
        case "array":
            return "a list, each " + _expectation(schema["items"])
        case _:
            return "a path" if schema.get("format") == "path" else "text"


def _range(schema: Mapping[str, Any]) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None:
        return ""
    if high is not None:
        opening = "[" if "minimum" in schema else "("
        closing = "]" if "maximum" in schema else ")"
        return f" in {opening}{low:g}, {high:g}{closing}"
    return f" of at least {low:g}" if "minimum" in schema else f" above {low:g}"


def _show(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."
