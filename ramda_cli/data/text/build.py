"""From the name of a table of texts to loaders for a model's task."""

from dataclasses import replace
from typing import Any

import numpy as np
from datasets import Dataset, List

from ramda_cli.config.schema import DataConfig
from ramda_cli.data.bundle import DataBundle, ShuffledBatches
from ramda_cli.data.images import (
    HOLDOUT_SEED,
    HOLDOUT_SHARE,
    limited_indices,
    stratified_indices,
)
from ramda_cli.data.text.batches import TextBatches
from ramda_cli.data.text.collating import Collator
from ramda_cli.data.text.columns import Columns, find_columns, require_columns
from ramda_cli.data.text.labels import Labels, as_the_model_counts, labels_of
from ramda_cli.data.text.sources import Texts, open_stream, open_texts, open_validation
from ramda_cli.data.text.streaming import StreamedBatches
from ramda_cli.data.text.tokenizing import Tokenized, streamed, tokenized
from ramda_cli.errors import DataError
from ramda_cli.models.loaded import LoadedModel, TextPreprocessing
from ramda_cli.models.transformers_models import call_settings, decoder_beginning
from ramda_cli.tasks import GENERATIVE, PACKED, REGRESSION, TEXT_CLASSIFICATION, Task

_MOST_LOGITS = 2**28


def build_texts(
    config: DataConfig, loaded: LoadedModel, *, seed: int, batches: int | None = None
) -> DataBundle:
    """Open the table, tokenise it, and build training and validation loaders.

    Args:
        config: the name and how to read it.
        loaded: the model, its tokenizer and its task.
        seed: of order and masks. What is held out does not depend on it.
        batches: of a pass, where training texts are streamed.

    Raises:
        DataError: the data cannot be found or read, or does not fit the task.
    """
    if not isinstance(loaded.preprocessing, TextPreprocessing):
        raise ValueError("texts need a model that reads them")
    name, length = loaded.task.name, loaded.preprocessing.max_length
    texts = open_validation(config) if config.streaming else open_texts(config)
    columns = find_columns(texts.train, name, config, texts.name)
    labels = None
    if name in ("text-classification", "token-classification") and columns.target is not None:
        lists = name == "token-classification"
        found = labels_of(texts.train, columns.target, texts.name, lists=lists)
        labels = as_the_model_counts(found, () if loaded.new_head else loaded.labels)
    texts, notes = _with_validation(texts, columns, labels)
    if texts.val is None:
        raise ValueError("there must be a validation split")
    require_columns(texts.val, columns, f"{texts.name}, validation split")
    collate = Collator(
        name,
        loaded.tokenizer,
        loaded.preprocessing.inputs,
        call_settings(loaded.module),
        begin=decoder_beginning(loaded.module, loaded.tokenizer),
    )

    def tokenize(rows: Dataset, kind: str) -> Tokenized:
        return tokenized(
            rows, columns, labels,
            task=name, tokenizer=loaded.tokenizer, max_length=length,
            where=f"{texts.name}, {kind} split",
        )  # fmt: skip

    val = tokenize(texts.val, "validation")
    parts = [val]
    train: ShuffledBatches
    if config.streaming:
        if batches is None or name not in GENERATIVE:
            raise DataError(
                f"texts for {name} are not streamed",
                hint=f"leave out data.streaming; it is for {', '.join(GENERATIVE)}",
            )
        stream = streamed(
            open_stream(config), columns, task=name, tokenizer=loaded.tokenizer, max_length=length
        )
        train = StreamedBatches(
            stream, collate, batch_size=config.batch_size, batches=batches, seed=seed
        )
        train_size = batches * config.batch_size
    else:
        whole = tokenize(_limited(texts.train, config.limit, seed), "training")
        parts.append(whole)
        train = TextBatches(
            whole.rows, collate, batch_size=config.batch_size, shuffle=True, seed=seed
        )
        train_size = len(whole.rows)
    unit = "blocks" if name in PACKED else "texts"
    classes = "" if labels is None or not labels.names else f", {len(labels.names)} classes"
    how = "streamed" if config.streaming else "training"
    return DataBundle(
        train=train,
        val=TextBatches(
            val.rows,
            collate,
            batch_size=_eval_batch_size(config, loaded, length),
            shuffle=False,
            seed=0,
        ),
        class_names=() if labels is None else labels.names,
        train_size=train_size,
        val_size=len(val.rows),
        description=(
            f"{texts.name}: {train_size:,} {how} and {len(val.rows):,} validation {unit}{classes},"
            f" {length} tokens at most"
        ),
        fingerprint=texts.fingerprint,
        notes=(*notes, *_number_notes(labels), *_cut_notes(parts, length)),
        hub_id=texts.hub_id,
        task=_task(loaded.task, labels),
        unit=unit,
    )


def _eval_batch_size(config: DataConfig, loaded: LoadedModel, length: int) -> int:
    """Bound the logits of a batch to 1 GB where there is one for every token and word."""
    if loaded.task.name not in GENERATIVE:
        return config.eval_batch_size
    model: Any = loaded.module
    return min(config.eval_batch_size, max(1, _MOST_LOGITS // (length * model.config.vocab_size)))


def _number_notes(labels: Labels | None) -> tuple[str, ...]:
    if labels is None or labels.names:
        return ()
    return ("the labels are decimal numbers: they are predicted, and there are no classes",)


def _task(task: Task, labels: Labels | None) -> Task:
    """A text classification whose labels are decimal numbers is a regression."""
    if task.name != TEXT_CLASSIFICATION.name or labels is None:
        return task
    return TEXT_CLASSIFICATION if labels.names else REGRESSION


def _with_validation(
    texts: Texts, columns: Columns, labels: Labels | None
) -> tuple[Texts, tuple[str, ...]]:
    """Hold out a fifth of the training rows where there are no validation rows."""
    if texts.val is not None:
        return texts, ()
    count = len(texts.train)
    tagged = columns.target is not None and isinstance(texts.train.features[columns.target], List)
    if labels is not None and labels.names and columns.target is not None and not tagged:
        stored = [repr(value) for value in texts.train[columns.target][:]]
        _, numbers = np.unique(stored, return_inverse=True)
    else:
        numbers = np.zeros(count, dtype=np.int64)
    held_out = stratified_indices(numbers, share=HOLDOUT_SHARE, seed=HOLDOUT_SEED)
    if held_out.size == 0:
        raise DataError(
            f"{texts.name} has too few texts to hold out a validation split",
            hint="give more, or a separate validation split",
        )
    rest = np.setdiff1d(np.arange(count), held_out)
    note = (
        f"{texts.name} has no validation split: {held_out.size:,} of {count:,} training rows are"
        " held out, the same ones in every run"
    )
    train, val = texts.train.select(rest), texts.train.select(held_out)
    return replace(texts, train=train, val=val), (note,)


def _limited(rows: Dataset, limit: int | None, seed: int) -> Dataset:
    chosen = limited_indices(len(rows), limit, seed=seed)
    return rows if chosen is None else rows.select(chosen)


def _cut_notes(parts: list[Tokenized], max_length: int) -> tuple[str, ...]:
    cut, texts = (sum(getattr(part, name) for part in parts) for name in ("cut", "texts"))
    if not cut:
        return ()
    return (
        f"{cut:,} of {texts:,} texts are longer than {max_length} tokens and are cut:"
        " --max-length sets how long they may be",
    )
