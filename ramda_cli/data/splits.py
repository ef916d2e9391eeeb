"""Finding the training and validation split among the names that exist, and parts of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ramda_cli.errors import DataError

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation", "dev", "test", "eval")

_PART = re.compile(r"(?P<name>[^\[\]]+)\[(?P<start>\d+%?)?:(?P<stop>\d+%?)?\]")


@dataclass(frozen=True)
class Split:
    """A split, or a part of one, as `datasets` writes it: `train[:90%]`, `train[45000:]`.

    Attributes:
        name: of the whole split; None where it is left to be found.
        start, stop: rows, or shares with a percent sign; None from the first and to the last.
    """

    name: str | None
    start: str | None = None
    stop: str | None = None

    def rows(self, count: int) -> range:
        """Return which rows of the whole split are meant."""
        start, stop = (self._row(bound, count) for bound in (self.start, self.stop))
        return range(start or 0, count if stop is None else stop)

    @staticmethod
    def _row(bound: str | None, count: int) -> int | None:
        if bound is None:
            return None
        if bound.endswith("%"):
            return round(count * min(100, int(bound[:-1])) / 100)
        return min(count, int(bound))


def parse_split(text: str | None, flag: str) -> Split:
    """Read the value of a split option.

    Raises:
        DataError: it has brackets that are no range.
    """
    if text is None or "[" not in text:
        return Split(text)
    found = _PART.fullmatch(text)
    if found is None:
        raise DataError(
            f"{flag} {text} is no part of a split",
            hint="write rows or shares, for example train[:45000] or train[90%:]",
        )
    return Split(found["name"], found["start"], found["stop"])


def find_split(
    existing: Sequence[str], wanted: str | None, usual: Sequence[str], flag: str, where: str
) -> str | None:
    """Return the split that was asked for, or else the first usual name that exists.

    Raises:
        DataError: the split that was asked for does not exist.
    """
    if wanted is not None:
        if wanted not in existing:
            raise DataError(
                f"{where} has no split {wanted!r}",
                hint=f"{flag} may be {_listed(existing)}",
            )
        return wanted
    return next((name for name in usual if name in existing), None)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "left out: there are no named splits"
