"""The size a user asks for, as written: `macs=0.5`, `params=10M`."""

import re
from decimal import Decimal
from typing import Final

from ramda_cli.config.schema import TargetConfig, TargetMetric
from ramda_cli.config.suggestions import closest
from ramda_cli.errors import ConfigError

METRICS: Final[tuple[TargetMetric, ...]] = ("macs", "params", "channels")
_SUFFIXES: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_AMOUNT: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,2}))?([a-zA-Z%]*)")
_SYNONYMS: Final = {"flops": "macs", "parameters": "params", "width": "channels"}
_EXAMPLES: Final = "for example --target macs=0.5 for half of the MACs, or --target params=10M"


def parse_target(text: str) -> TargetConfig:
    """Read `METRIC=AMOUNT`.

    Args:
        text: AMOUNT is a share of dense in (0, 1], or a count above 1 that may end in K, M or G.

    Raises:
        ConfigError: if it is anything else.
    """
    name, equals, amount = (part.strip() for part in text.partition("="))
    metric = next((known for known in METRICS if known == name.lower()), None)
    if metric is None or not equals:
        raise ConfigError(
            f"target must be METRIC=AMOUNT with METRIC one of {', '.join(METRICS)}, got {text!r}",
            hint=_metric_hint(name, amount if equals else ""),
        )
    return TargetConfig(metric=metric, amount=_parse_amount(metric, amount))


def parse_count(flag: str, text: str | None) -> int | None:
    """Read a whole count that may end in K, M or G; None where there is no text.

    Raises:
        ConfigError: if it is anything else.
    """
    if text is None:
        return None
    match = _AMOUNT.fullmatch(text.strip())
    digits, exponent, suffix = match.groups() if match else ("0", None, "?")
    if suffix.lower() in _SUFFIXES:
        count = Decimal(digits).scaleb(int(exponent or 0)) * _SUFFIXES[suffix.lower()]
        if count == count.to_integral_value():
            return int(count)
    raise ConfigError(
        f"{flag} must be a whole count, got {text!r}", hint=f"for example {flag} 10M or {flag} 2G"
    )


def _metric_hint(name: str, amount: str) -> str:
    meant = _SYNONYMS.get(name.lower()) or closest(name.lower(), METRICS)
    return f"did you mean {meant}={amount or '0.5'}?" if meant else _EXAMPLES


def _parse_amount(metric: str, text: str) -> float:
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise _bad_amount(metric, text, _EXAMPLES)
    digits, exponent, suffix = match.groups()
    number = Decimal(digits).scaleb(int(exponent or 0))
    if suffix == "%":
        raise _bad_amount(metric, text, f"write the share: {metric}={number / 100}")
    if suffix.lower() not in _SUFFIXES:
        raise _bad_amount(metric, text, "the suffixes are K, M and G: 10M is 10,000,000")
    count = number * _SUFFIXES[suffix.lower()]
    if count <= 0:
        raise _bad_amount(metric, text, _EXAMPLES)
    if count > 1 and count != count.to_integral_value():
        raise _bad_amount(metric, text, "an amount above 1 is a count; a share is at most 1")
    return float(count)


def _bad_amount(metric: str, text: str, hint: str) -> ConfigError:
    message = f"target {metric} must be a share in (0, 1] or a whole count above 1, got {text!r}"
    return ConfigError(message, hint=hint)
