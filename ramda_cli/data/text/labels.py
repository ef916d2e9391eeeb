"""What a column of labels holds: classes, or numbers to predict."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, List

from ramda_cli.errors import DataError

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


def labels_of(rows: Dataset, column: str, where: str) -> Labels:
    """Return the classes of a column of labels, or of lists of them.

    Integers and texts are classes, in ascending order; decimal numbers are to be predicted.

    Raises:
        DataError: the column holds anything else.
    """
    feature = rows.features[column]
    if isinstance(feature, List):
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
    if kinds not in ({int}, {str}):
        odd = next((v for v in values if type(v) not in (int, str)), values[0] if values else None)
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
