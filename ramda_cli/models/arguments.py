"""Arguments of the packaged models, which a user writes: of the right type, and in their range."""

from typing import TypeGuard


def require_counts(*, at_least: int = 1, **given: object) -> None:
    """Raise ValueError for an argument that is no whole number of at least so much."""
    for name, value in given.items():
        if not is_whole(value) or value < at_least:
            raise ValueError(f"{name} must be a whole number of at least {at_least}, got {value!r}")


def require_probabilities(**given: object) -> None:
    """Raise ValueError for an argument that is no number in [0, 1)."""
    for name, value in given.items():
        if not is_number(value) or not 0 <= value < 1:
            raise ValueError(f"{name} must be in [0, 1), got {value!r}")


def is_whole(value: object) -> TypeGuard[int]:
    """Tell whether it is an int, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether it is an int or a float, and no bool."""
    return is_whole(value) or isinstance(value, float)
