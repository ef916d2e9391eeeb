"""From rows of texts to rows of token ids, once: `datasets` keeps the result in its cache.

A row has `input_ids`, for a pair of texts `token_type_ids` where the model knows them, and
`targets` where the task aims at something: a class, a number, a class per token, or token ids.
Where a language model reads, texts are joined, each ended by the token for the end, and cut into
blocks of one length.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, IterableDataset

from ramda_cli.data.tables import without_progress
from ramda_cli.data.text.columns import Columns
from ramda_cli.data.text.labels import Labels
from ramda_cli.errors import DataError
from ramda_cli.tasks import IGNORED, PACKED

Rows = dict[str, list[Any]]

_VERSION = 1
"""Of what is made of a text; rows in the cache of another one are not taken."""


@dataclass(frozen=True, eq=False)
class Tokenized:
    """Rows of token ids.

    Attributes:
        rows: of the columns above.
        cut: texts that were longer than the model takes.
        texts: how many there were.
    """

    rows: Dataset
    cut: int
    texts: int


def tokenized(
    rows: Dataset,
    columns: Columns,
    labels: Labels | None,
    *,
    task: str,
    tokenizer: Any,
    max_length: int,
    where: str,
) -> Tokenized:
    """Tokenise the rows of a split.

    Args:
        rows: as they are stored.
        columns: which are read.
        labels: classes of the target column, or None where it holds texts or there is none.
        task: its name.
        tokenizer: of transformers.
        max_length: most tokens of an input.
        where: the split's name, for errors.

    Raises:
        DataError: a text is missing or empty, or a label is none of the classes.
    """
    packs = task in PACKED
    _check(rows, columns, where, may_be_empty=packs)
    if packs:
        convert = _packing(columns, tokenizer, max_length)
    elif task == "token-classification":
        convert = _tagging(columns, labels, tokenizer, max_length, where)
    else:
        convert = _encoding(columns, labels, tokenizer, max_length, where)
    with nullcontext() if sys.stderr.isatty() else without_progress():
        converted = rows.map(
            convert,
            batched=True,
            remove_columns=rows.column_names,
            desc=f"tokenising {where}",
            new_fingerprint=_fingerprint(rows, columns, labels, task, tokenizer, max_length),
        )
    if packs:
        if not len(converted):
            raise DataError(
                f"{where} has fewer than {max_length} tokens",
                hint="give a smaller --max-length, or more text",
            )
        return Tokenized(converted, 0, len(rows))
    cut = sum(converted["cut"])
    return Tokenized(converted.remove_columns("cut"), cut, len(rows))


def streamed(
    rows: IterableDataset, columns: Columns, *, task: str, tokenizer: Any, max_length: int
) -> IterableDataset:
    """Tokenise rows as they come; arguments as of `tokenized`."""
    if task in PACKED:
        convert = _packing(columns, tokenizer, max_length)
    else:
        convert = _encoding(columns, None, tokenizer, max_length, "the stream")
    known = rows.select_columns([*columns.inputs, *([columns.target] if columns.target else [])])
    return known.map(convert, batched=True, remove_columns=known.column_names or [*columns.inputs])


def _check(rows: Dataset, columns: Columns, where: str, *, may_be_empty: bool) -> None:
    table = rows.with_format("arrow")[:]
    texts = (*columns.inputs, *([columns.target] if columns.target else []))
    for name in texts:
        kind = table[name].type
        missing = pc.is_null(table[name]).to_numpy()
        if may_be_empty or not (pa.types.is_list(kind) or _is_string(kind)):
            bad = missing
        elif pa.types.is_list(kind):
            bad = missing | (pc.list_value_length(table[name]).fill_null(0).to_numpy() == 0)
            holes = pc.list_parent_indices(table[name]).to_numpy()[
                pc.is_null(pc.list_flatten(table[name])).to_numpy()
            ]
            bad[holes] = True
        else:
            words = pc.utf8_trim_whitespace(table[name])
            bad = missing | (pc.utf8_length(words).fill_null(0).to_numpy() == 0)
        found = np.flatnonzero(bad)
        if found.size:
            what = "an empty" if not missing[found[0]] and _is_string(kind) else "a missing"
            more = f", and {found.size - 1} more" if found.size > 1 else ""
            raise DataError(
                f"row {found[0]} of {where} has {what} {name!r}{more}", hint="take those rows out"
            )


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _packing(columns: Columns, tokenizer: Any, length: int) -> Callable[[Rows], Rows]:
    (column,) = columns.inputs
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id

    def convert(batch: Rows) -> Rows:
        texts = [text for text in batch[column] if text]
        pieces = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        ids = list(
            chain.from_iterable([*piece, *([end] if end is not None else [])] for piece in pieces)
        )
        whole = len(ids) // length * length
        return {"input_ids": [ids[at : at + length] for at in range(0, whole, length)]}

    return convert


def _encoding(
    columns: Columns, labels: Labels | None, tokenizer: Any, length: int, where: str
) -> Callable[[Rows], Rows]:
    def convert(batch: Rows) -> Rows:
        texts = [batch[name] for name in columns.inputs]
        whole = tokenizer(*texts, truncation=False, verbose=False)
        made = whole
        if max(map(len, whole["input_ids"])) > length:
            made = tokenizer(*texts, truncation=True, max_length=length)
        kept = {name: made[name] for name in ("input_ids", "token_type_ids") if name in made}
        cut = [len(ids) > length for ids in whole["input_ids"]]
        targets: Rows = {}
        if columns.target is not None and labels is not None:
            aims = batch[columns.target]
            if labels.names:
                targets = {"targets": [labels.number(aim, where) for aim in aims]}
            else:
                targets = {"targets": [float(aim) for aim in aims]}
        elif columns.target is not None:
            aims = batch[columns.target]
            full = tokenizer(text_target=aims, truncation=False, verbose=False)["input_ids"]
            cut = [each or len(ids) > length for each, ids in zip(cut, full, strict=True)]
            answers = tokenizer(text_target=aims, truncation=True, max_length=length)
            targets = {"targets": answers["input_ids"]}
        return {**kept, "cut": cut, **targets}

    return convert


def _tagging(
    columns: Columns, labels: Labels | None, tokenizer: Any, length: int, where: str
) -> Callable[[Rows], Rows]:
    """Give each word's tag to its first token; the others do not count (as in BERT's paper)."""
    if labels is None or columns.target is None:
        raise ValueError("tagging needs labels")
    words, tags = columns.inputs[0], columns.target

    def convert(batch: Rows) -> Rows:
        made = tokenizer(batch[words], is_split_into_words=True, truncation=True, max_length=length)
        aims, cut = [], []
        for at, stored in enumerate(batch[tags]):
            if len(stored) != len(batch[words][at]):
                raise DataError(
                    f"a row of {where} has {len(batch[words][at])} words and {len(stored)} tags",
                    hint="give a tag to each word",
                )
            numbers = [labels.number(tag, where) for tag in stored]
            row, last = [], None
            for word in made.word_ids(at):
                row.append(IGNORED if word is None or word == last else numbers[word])
                last = word
            aims.append(row)
            cut.append(len(set(made.word_ids(at)) - {None}) < len(stored))
        return {"input_ids": made["input_ids"], "targets": aims, "cut": cut}

    return convert


def _fingerprint(
    rows: Dataset,
    columns: Columns,
    labels: Labels | None,
    task: str,
    tokenizer: Any,
    max_length: int,
) -> str:
    """Digest what the result depends on: a tokenizer's own hash changes with its use."""
    vocabulary: Mapping[str, int] = tokenizer.get_vocab()
    backend = getattr(tokenizer, "backend_tokenizer", None)
    description = backend.to_str() if backend is not None else repr(sorted(vocabulary.items()))
    ends = (tokenizer.eos_token_id, tokenizer.sep_token_id, tuple(tokenizer.model_input_names))
    parts = (_VERSION, rows._fingerprint, columns, labels, task, description, ends, max_length)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
