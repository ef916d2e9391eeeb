"""What a column of labels holds: classes, or numbers to predict."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, List

from ramda_cli.errors import DataError
from ramda_cli.models.huggingface import is_nameless

_OTHER = "name a column of integers or texts with --target-key"


@dataclass(frozen=True)
class Labels:
    """The classes of a column.

    Attributes:
        names: in order; none where the column holds numbers to predict.
        values: what is stored for each class.
    """

    names: tuple[str, ...]
    values: tuple[Any, ...]

    def number(self, stored: Any, where: str) -> int:
        """Return the class of a stored value.

        Raises:
            DataError: it is none of them.
        """
        try:
            return self._numbers[stored]
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{where} has the label {stored!r}, which is none of the {len(self.names)} classes",
                hint="a split whose labels are hidden (-1) cannot be used; choose with --val-split",
            ) from error

    @cached_property
    def _numbers(self) -> dict[Any, int]:
        return {value: number for number, value in enumerate(self.values)}


def as_the_model_counts(found: Labels, own: Sequence[str]) -> Labels:
    """Return the classes in the order of a model that tells some of the same apart.

    They are matched by name, or where the column holds the model's own numbers; a split may lack
    some. Otherwise the data's own order stays.

    Args:
        found: in the data.
        own: names of the model's classes; empty where its head is new.
    """
    if not own or not found.names:
        return found
    at = {name.casefold(): number for number, name in enumerate(own)}
    if not is_nameless(own) and {name.casefold() for name in found.names} <= at.keys():
        pairs = zip(found.names, found.values, strict=True)
        stored = {at[name.casefold()]: value for name, value in pairs}
        return Labels(tuple(own), tuple(stored.get(n, _Absent(n)) for n in range(len(own))))
    numbers = all(type(value) is int and 0 <= value < len(own) for value in found.values)
    if numbers and found.names == tuple(map(str, found.values)):
        named = found.names if is_nameless(own) and len(found.names) == len(own) else own
        return Labels(tuple(named), tuple(range(len(own))))
    return found


@dataclass(frozen=True)
class _Absent:
    """Stands for the stored value of a class that the data lacks."""

    number: int


def labels_of(rows: Dataset, column: str, where: str, *, lists: bool) -> Labels:
    """Return the classes of a column of labels, or with `lists` of lists of them.

    Integers, texts and truth values are classes, in ascending order; decimal numbers are to be
    predicted.

    Raises:
        DataError: the column holds anything else.
    """
    feature = rows.features[column]
    if isinstance(feature, List):
        if not lists:
            raise DataError(
                f"the column {column!r} of {where} does not hold classes but lists", hint=_OTHER
            )
        feature = feature.feature
    if isinstance(feature, ClassLabel):
        return Labels(tuple(feature.names), tuple(range(feature.num_classes)))
    values = _distinct(rows[column][:])
    if values and all(type(value) is float for value in values):
        if not all(np.isfinite(values)):
            raise DataError(
                f"the column {column!r} of {where} has a number that is missing or not finite",
                hint="take those rows out",
            )
        return Labels((), ())
    kinds = {type(value) for value in values}
    if kinds not in ({int}, {str}, {bool}):
        odd = next((v for v in values if not isinstance(v, int | str)), None)
        raise DataError(
            f"the column {column!r} of {where} does not hold classes: one of its labels is {odd!r}",
            hint=_OTHER,
        )
    ordered = sorted(values)
    return Labels(tuple(str(value) for value in ordered), tuple(ordered))


def _distinct(stored: Sequence[Any]) -> list[Any]:
    found: dict[Any, None] = {}
    for value in stored:
        for each in value if isinstance(value, list) else [value]:
            found[each] = None
    return list(found)
