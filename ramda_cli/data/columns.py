"""Finding the image and label columns of a table."""

from collections.abc import Mapping

from datasets import ClassLabel, Features, Image, Value

from ramda_cli.config.schema import DataConfig
from ramda_cli.errors import DataError

_INPUT_NAMES = ("image", "img", "images", "jpg", "png", "webp")
_TARGET_NAMES = ("label", "labels", "target", "class", "fine_label", "cls")


def find_columns(features: Features, config: DataConfig, where: str) -> tuple[str, str]:
    """Return the names of the image column and of the label column.

    An image column is one of the `Image` type or the pair {bytes, path} that it is stored as.
    The label column is the only `ClassLabel`, or else the first integer or text column with a
    usual name.

    Raises:
        DataError: a column that was asked for is missing, or none or several would do.
    """
    images = [name for name, feature in features.items() if _holds_images(feature)]
    input_key = _choose(
        features, config.input_key, images, _INPUT_NAMES, ("image", "--input-key", where)
    )
    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    named = [name for name in _TARGET_NAMES if isinstance(features.get(name), Value)]
    target_key = _choose(
        features,
        config.target_key,
        classes or named,
        _TARGET_NAMES,
        ("label", "--target-key", where),
    )
    return input_key, target_key


def _choose(
    features: Features,
    wanted: str | None,
    candidates: list[str],
    usual: tuple[str, ...],
    context: tuple[str, str, str],
) -> str:
    kind, flag, where = context
    existing = ", ".join(features)
    if wanted is not None:
        if wanted in features:
            return wanted
        raise DataError(f"{where} has no column {wanted!r}", hint=f"it has {existing}")
    chosen = next((name for name in usual if name in candidates), None)
    if chosen is None and len(candidates) == 1:
        chosen = candidates[0]
    if chosen is None:
        found = f"several {kind} columns" if candidates else f"no {kind} column"
        raise DataError(
            f"{where} has {found}",
            hint=f"name it with {flag}; the columns are {existing}",
        )
    return chosen


def _holds_images(feature: object) -> bool:
    if isinstance(feature, Image):
        return True
    return isinstance(feature, Mapping) and set(feature) == {"bytes", "path"}
