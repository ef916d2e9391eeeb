"""Finding the columns of a table that a task reads and aims at."""

from dataclasses import dataclass

from datasets import ClassLabel, Dataset, Features, List, Value

from ramda_cli.config.schema import DataConfig
from ramda_cli.errors import DataError

_TEXTS = ("text", "sentence", "content", "review", "document", "article", "source", "input")
_PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "answer"),
    ("text1", "text2"),
)
_LABELS = ("label", "labels", "target", "class", "score", "rating", "category")
_WORDS = ("tokens", "words")
_TAGS = ("ner_tags", "tags", "labels", "pos_tags", "ner", "pos")
_ANSWERS = ("target", "summary", "highlights", "output", "response", "answer", "target_text")


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are read.

    Attributes:
        inputs: one column of texts, two that belong together, or one of lists of words.
        target: what the task aims at; None where the texts are all there is.
    """

    inputs: tuple[str, ...]
    target: str | None


def find_columns(rows: Dataset, task: str, config: DataConfig, where: str) -> Columns:
    """Return the columns that a task needs; those of the usual names unless others are given.

    Raises:
        DataError: one is missing, or of another type; the hint lists those that there are.
    """
    features = rows.features
    if task == "token-classification":
        words = _one(features, config.input_key, _WORDS, "words", "--input-key", where)
        tags = _one(features, config.target_key, _TAGS, "tags", "--target-key", where)
        for name in (words, tags):
            if not isinstance(features[name], List):
                raise DataError(
                    f"the column {name!r} of {where} does not hold lists",
                    hint="each row is a list of words and a list of their tags, as JSON lines and"
                    " parquet have them",
                )
        return Columns((words,), tags)
    inputs = _inputs(features, config, where, pairs=task == "text-classification")
    if len(inputs) > 1 and task != "text-classification":
        raise DataError(
            f"{task} reads one column of texts, and --input-key names two", hint="name one"
        )
    for name in inputs:
        require_texts(features, name, "--input-key", where)
    if task == "text-classification":
        target = _one(features, config.target_key, _LABELS, "label", "--target-key", where)
        return Columns(inputs, target)
    if task == "text2text-generation":
        left = {name: kind for name, kind in features.items() if name not in inputs}
        target = _one(left, config.target_key, _ANSWERS, "target", "--target-key", where)
        require_texts(features, target, "--target-key", where)
        return Columns(inputs, target)
    return Columns(inputs, None)


def require_columns(rows: Dataset, columns: Columns, where: str) -> None:
    """Refuse a split that lacks a column of the other.

    Raises:
        DataError: naming the column, and listing those that there are.
    """
    needed = (*columns.inputs, *([columns.target] if columns.target else []))
    missing = next((name for name in needed if name not in rows.features), None)
    if missing is not None:
        raise DataError(
            f"{where} has no column {missing!r}", hint=f"it has {', '.join(rows.features)}"
        )


def require_texts(features: Features, name: str, flag: str, where: str) -> None:
    """Refuse a column that holds something else; `flag` names another.

    Raises:
        DataError: naming the column, and listing those that there are.
    """
    if not _is_text(features[name]):
        raise DataError(
            f"the column {name!r} of {where} does not hold texts",
            hint=f"name another with {flag}; the columns are {', '.join(features)}",
        )


def _inputs(features: Features, config: DataConfig, where: str, *, pairs: bool) -> tuple[str, ...]:
    if config.input_key is not None:
        names = tuple(name.strip() for name in config.input_key.split(","))
        missing = next((name for name in names if name not in features), None)
        if missing is not None:
            raise DataError(
                f"{where} has no column {missing!r}", hint=f"it has {', '.join(features)}"
            )
        if len(names) > 2:
            raise DataError(
                f"--input-key names {len(names)} columns", hint="an input is one text, or two"
            )
        return names
    pair = next((pair for pair in _PAIRS if set(pair) <= set(features)), None)
    if pair is not None and pairs:
        return pair
    usual = next((name for name in (*_TEXTS, "question") if name in features), None)
    if usual is not None:
        return (usual,)
    texts = [name for name, kind in features.items() if _is_text(kind) and name not in _LABELS]
    if len(texts) == 1:
        return (texts[0],)
    raise DataError(
        f"{where} has {'several columns of texts' if texts else 'no column of texts'}",
        hint=f"name it with --input-key; the columns are {', '.join(features)}",
    )


def _one(
    features: Features, wanted: str | None, usual: tuple[str, ...], kind: str, flag: str, where: str
) -> str:
    listed = ", ".join(features)
    if wanted is not None:
        if wanted in features:
            return wanted
        raise DataError(f"{where} has no column {wanted!r}", hint=f"it has {listed}")
    classes = [name for name, each in features.items() if isinstance(each, ClassLabel)]
    found = next((name for name in usual if name in features), None)
    if found is None and kind == "label" and len(classes) == 1:
        found = classes[0]
    if found is None:
        raise DataError(
            f"{where} has no {kind} column", hint=f"name it with {flag}; the columns are {listed}"
        )
    return found


def _is_text(feature: object) -> bool:
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string")
