"""Finding the training and validation split among the names that exist."""

from collections.abc import Sequence

from ramda_cli.errors import DataError

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation", "dev", "test", "eval")


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
