"""Single settings over a configuration document: `training.epochs=5`."""

from collections.abc import Sequence
from typing import Any

from ramda_cli.config.yaml_text import parse_yaml
from ramda_cli.errors import ConfigError


def parse_sets(sets: Sequence[str]) -> dict[str, object]:
    """Read `KEY=VALUE` items; the last one of a key wins.

    Args:
        sets: KEY is dotted, VALUE is YAML: `structure.keep=[layer1*, fc]`.

    Raises:
        ConfigError: if an item has no key, or its value is not YAML.
    """
    values: dict[str, object] = {}
    for item in sets:
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"--set needs KEY=VALUE, got {item!r}", hint="for example --set training.epochs=5"
            )
        values[key.strip()] = parse_yaml(value, source=f"--set {item}")
    return values


def assign(document: dict[str, Any], key: str, value: object) -> None:
    """Set a dotted key in place, creating its section.

    Raises:
        ConfigError: if a part of the key is a value and not a section.
    """
    *sections, leaf = key.split(".")
    node: Any = document
    for depth, name in enumerate(sections):
        if node.get(name) is None:
            node[name] = {}
        node = node[name]
        if not isinstance(node, dict):
            taken = ".".join(sections[: depth + 1])
            raise ConfigError(
                f"{key} cannot be set: {taken} is not a section", hint=f"set {taken} itself"
            )
    node[leaf] = value
