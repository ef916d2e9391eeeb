"""The size a user asks for, as written: `macs=0.5`, `params=10M`, `latency=8`."""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from ramda_cli.config.schema import TargetConfig
from ramda_cli.config.suggestions import closest
from ramda_cli.errors import ConfigError

METRICS: Final = tuple(name.replace("_", "-") for name in TargetConfig.model_fields)
_ABSOLUTE: Final = {"size-mb": "megabytes above 1", "latency": "milliseconds above 1"}
_COUNT: Final = "a whole count above 1"
_SUFFIXES: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_AMOUNT: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,2}))?([a-zA-Z%]*)")
_SYNONYMS: Final = {"flops": "macs", "parameters": "params", "width": "channels", "size": "size-mb"}
_EXAMPLES: Final = "for example --target macs=0.5 for half of the MACs, or --target params=10M"


def parse_targets(texts: Sequence[str]) -> dict[str, float]:
    """Read several `METRIC=AMOUNT`; return the fields of a `TargetConfig`.

    Raises:
        ConfigError: if one is anything else, or a metric is there twice.
    """
    targets: dict[str, float] = {}
    for text in texts:
        metric, amount = parse_target(text)
        if metric in targets:
            raise ConfigError(
                f"target {metric.replace('_', '-')} is given twice", hint="give each metric once"
            )
        targets[metric] = amount
    return targets


def parse_target(text: str) -> tuple[str, float]:
    """Read `METRIC=AMOUNT`; return a field of `TargetConfig` and its value.

    Args:
        text: AMOUNT is a share of dense in (0, 1], or absolute above 1: a count that may end in
            K, M or G, megabytes, or milliseconds.

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
    return metric.replace("-", "_"), _parse_amount(metric, amount)


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
    if metric in _ABSOLUTE and suffix:
        raise _bad_amount(metric, text, f"write the number alone: {metric}={number}")
    if suffix.lower() not in _SUFFIXES:
        raise _bad_amount(metric, text, "the suffixes are K, M and G: 10M is 10,000,000")
    amount = number * _SUFFIXES[suffix.lower()]
    if amount <= 0:
        raise _bad_amount(metric, text, _EXAMPLES)
    if metric not in _ABSOLUTE and amount > 1 and amount != amount.to_integral_value():
        raise _bad_amount(metric, text, "an amount above 1 is a count; a share is at most 1")
    return float(amount)


def _bad_amount(metric: str, text: str, hint: str) -> ConfigError:
    absolute = _ABSOLUTE.get(metric, _COUNT)
    message = f"target {metric} must be a share in (0, 1] or {absolute}, got {text!r}"
    return ConfigError(message, hint=hint)
