"""Running text for a model with a memory: example i of a batch goes on where it was before.

The text is cut into as many streams as a batch has examples, and each batch is the next segment of
all streams. So the order is that of the text, in every pass.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from ramda_cli.config.schema import DataConfig
from ramda_cli.data.bundle import DataBundle, cut_out, part_of
from ramda_cli.data.text.columns import find_columns, require_columns, require_texts
from ramda_cli.data.text.sources import open_texts
from ramda_cli.data.text.vocabulary import UNKNOWN, learn_vocabulary, lines_of
from ramda_cli.errors import DataError
from ramda_cli.models.loaded import LoadedModel, SegmentPreprocessing
from ramda_cli.tasks import IGNORED, TEXT_GENERATION
from ramda_cli.tasks.inputs import ExampleInputs

_SEGMENTS = 16
"""Of a validation stream at least: its beginning is predicted without a memory."""


class SegmentBatches:
    """A loader of segments; each batch has as many examples, but the last may be shorter.

    Args:
        words: their numbers, one after the other.
        batch_size: streams.
        length: words of a segment.
        empty: returns an empty memory of so many examples.
        whole: whether the last words are given too: what is missing of a stream counts nowhere.
    """

    def __init__(
        self,
        words: np.ndarray[Any, Any],
        *,
        batch_size: int,
        length: int,
        empty: Callable[[int], Tensor],
        whole: bool,
    ) -> None:
        self._length, self._empty = length, empty
        predicted = len(words) - 1
        self._steps = -(-predicted // batch_size) if whole else predicted // batch_size
        if not whole:
            self._steps -= self._steps % length
        count = self._steps * batch_size
        padded = np.full(count + 1, IGNORED, dtype=np.int64)
        padded[: len(words)] = words[: count + 1]
        # Streams overlap by one word: the last of one is what another begins with.
        inputs = torch.from_numpy(padded[:-1]).view(batch_size, self._steps)
        self._inputs = inputs.clamp_min(0)
        self._targets = torch.from_numpy(padded[1:]).view(batch_size, self._steps)
        self._first = 0
        self._part: slice | None = None

    def set_epoch(self, epoch: int, *, first: int = 0) -> None:
        """Begin the next pass with batch `first`; all passes are alike."""
        self._first = first

    def take_part(self, part: int, of: int) -> None:
        """Give of each batch only one of so many equal parts."""
        self._part = part_of(len(self._inputs), part, of)

    def __len__(self) -> int:
        return -(-self._steps // self._length)

    def __iter__(self) -> Iterator[tuple[ExampleInputs, Tensor]]:
        first, self._first = self._first, 0
        for start in range(first * self._length, self._steps, self._length):
            places = slice(start, start + self._length)
            targets = self._targets[:, places]
            inputs = {
                "tokens": self._inputs[:, places],
                "memory": self._empty(len(targets)),
                "targets": targets,
            }
            batch = inputs, targets
            yield batch if self._part is None else cut_out(batch, self._part)


def build_segments(config: DataConfig, loaded: LoadedModel) -> DataBundle:
    """Open a text, count its words, and build training and validation loaders.

    The vocabulary is that of the model's tokenizer, or is learned from the training split: as many
    words as the model has. The bundle has the tokenizer.

    Raises:
        DataError: the text cannot be found or read, has no validation split, or is too short.
    """
    preprocessing, model = loaded.preprocessing, loaded.module
    if not isinstance(preprocessing, SegmentPreprocessing):
        raise ValueError("segments need a model that reads them")
    texts = open_texts(config)
    if texts.val is None:
        raise DataError(
            f"{texts.name} has no validation split",
            hint="running text is not held out by itself: name one with --val-split",
        )
    if config.streaming:
        raise DataError(
            "running text is read in one piece, and not streamed", hint="leave out data.streaming"
        )
    columns = find_columns(texts.train, TEXT_GENERATION.name, config, texts.name)
    (column,), held_out = columns.inputs, f"{texts.name}, validation split"
    require_columns(texts.val, columns, held_out)
    require_texts(texts.val.features, column, "--input-key", held_out)
    known = len(model.get_parameter("embedding.weight"))
    tokenizer = loaded.tokenizer or learn_vocabulary(texts.train, column, size=known)
    train, val = (_numbers(rows, column, tokenizer) for rows in (texts.train, texts.val))
    length = preprocessing.segment_length
    if config.limit is not None:
        train = train[: config.limit * length + 1]
    for kind, words, streams in (("training", train, config.batch_size), ("validation", val, 1)):
        if len(words) <= streams * length:
            raise DataError(
                f"the {kind} text of {texts.name} has {len(words):,} words, too few for"
                f" {streams} segments of {length}",
                hint="give more text, a smaller --batch-size, or shorter segments",
            )
    empty: Callable[[int], Tensor] = model.no_memory  # type: ignore[assignment]
    streams = max(1, min(config.eval_batch_size, len(val) // (_SEGMENTS * length)))
    unknown = int((val == tokenizer.unk_token_id).sum())
    counts = len(train) // length, len(val) // length
    return DataBundle(
        train=SegmentBatches(
            train, batch_size=config.batch_size, length=length, empty=empty, whole=False
        ),
        val=SegmentBatches(val, batch_size=streams, length=length, empty=empty, whole=True),
        class_names=(),
        train_size=counts[0],
        val_size=counts[1],
        description=(
            f"{texts.name}: {len(train):,} training and {len(val):,} validation words,"
            f" {len(tokenizer):,} different ones, in segments of {length}"
        ),
        fingerprint=texts.fingerprint,
        notes=(_note_on_unknown(texts.val, column, unknown, words=len(val), known=known),),
        hub_id=texts.hub_id,
        task=loaded.task,
        unit="segments",
        tokenizer=tokenizer,
    )


def _numbers(rows: Dataset, column: str, tokenizer: Any) -> np.ndarray[Any, Any]:
    """Return the word numbers of all lines, one after the other."""
    parts = []
    for lines in lines_of(rows, column):
        encoded = tokenizer(lines)["input_ids"]
        parts += [np.asarray(line, dtype=np.int32) for line in encoded]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)


def _note_on_unknown(rows: Dataset, column: str, unknown: int, *, words: int, known: int) -> str:
    """Say which of the validation words are not known, and which the text itself leaves out."""
    left_out = sum(line.count(UNKNOWN) for lines in lines_of(rows, column) for line in lines)
    share = (unknown - left_out) / words
    note = f"{share:.1%} of the validation words are not in the vocabulary of {known:,}"
    if not left_out:
        return note
    return f"{note}; {left_out / words:.1%} more are {UNKNOWN} in the text itself"
