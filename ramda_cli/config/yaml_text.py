"""YAML as a configuration wants it: 1e-2 is a number and a key may not be given twice.

PyYAML follows YAML 1.1, where `1e-2` is text and the second of two equal keys wins silently.
"""

import re
from typing import Any, Final

import yaml

from ramda_cli.errors import ConfigError

_EXPONENT: Final = re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d+")


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        repeated = next((key for key in keys if keys.count(key) > 1), None)
        if repeated is not None:
            problem = f"{repeated!r} is given twice"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    """Quotes text that `_Loader` would read as a number."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def parse_yaml(text: str, *, source: str) -> object:
    """Return the value that `text` describes.

    Args:
        text: one YAML document.
        source: what the text is, for the error.

    Raises:
        ConfigError: if it is not valid YAML.
    """
    try:
        # A subclass of the safe loader: it builds plain data only.
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise _invalid(f"{source}{where}: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise _invalid(f"{source}: {reason or 'nested too deeply'}") from error


def format_yaml(value: object) -> str:
    """Return `value` as YAML that `parse_yaml` reads back, keys in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _invalid(detail: str) -> ConfigError:
    return ConfigError(
        f"not valid YAML: {detail}",
        hint="settings are written `key: value`, indented by two spaces under their section",
    )
