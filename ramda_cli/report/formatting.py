"""Numbers and names as a person reads them."""

from collections.abc import Mapping
from typing import Final

from rich.text import Text

_COUNT_UNITS: Final = ("", " k", " M", " G", " T")
_BYTE_UNITS: Final = (" B", " kB", " MB", " GB", " TB")


def text_of(value: object, style: str = "") -> Text:
    """Return untrusted text as it is: no markup, and control characters made visible."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))
    return Text(shown, style=style)


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as a percentage, a dash when it is not known."""
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def measured(value: float | None, *, is_share: bool) -> str:
    """Return a metric: a share as a percentage, anything else to four digits."""
    if is_share or value is None:
        return percent(value, 2)
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.3e}"


def targets_text(amounts: Mapping[str, float]) -> str:
    """Return targets as they are given on the command line: `macs=0.5 size-mb=10`."""
    return " ".join(f"{name.replace('_', '-')}={amount:g}" for name, amount in amounts.items())


def count(value: float) -> str:
    """Return a count: exact up to 9,999, then three digits and k, M, G or T."""
    return f"{value:,.0f}" if abs(value) < 10_000 else _scaled(value, _COUNT_UNITS)


def counted(number: int, noun: str) -> str:
    """Return an exact number with its noun: `1 epoch`, `20 epochs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size_bytes(value: float) -> str:
    """Return a file size in decimal units."""
    return f"{value:.0f} B" if abs(value) < 1000 else _scaled(value, _BYTE_UNITS)


def difference(value: float | None) -> str:
    """Return a difference or tolerance: `0` only when it is exactly zero."""
    if value is None:
        return "-"
    return "0" if value == 0 else f"{value:.1e}"


def duration(seconds: float) -> str:
    """Return a time to the second, to the minute above an hour."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def share_of(part: float, whole: float) -> float:
    """Return part / whole, and 1 of an empty whole: nothing is missing from it."""
    return part / whole if whole else 1.0


def _scaled(value: float, units: tuple[str, ...]) -> str:
    step = 0
    while abs(value) >= 999.5 and step < len(units) - 1:
        value /= 1000
        step += 1
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f}{units[step]}"
