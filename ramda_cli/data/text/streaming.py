"""Training rows that are read as they come, for tables that fit no disk.

The stream goes on from one pass to the next and starts again at its end, shuffled within a buffer
of rows. A resumed run reads over what was trained on before. A language model alone can be trained
so: classes would have to be counted first.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from datasets import IterableDataset
from torch import Tensor

from ramda_cli.data.bundle import cut_out, part_of
from ramda_cli.data.text.batches import Collate
from ramda_cli.errors import DataError
from ramda_cli.tasks.inputs import ExampleInputs

_BUFFER = 10_000


class StreamedBatches:
    """A loader whose passes are parts of an endless stream.

    Args:
        rows: of token ids.
        collate: pads and masks.
        batch_size: rows per batch.
        batches: of a pass.
        seed: of the order.
    """

    def __init__(
        self, rows: IterableDataset, collate: Collate, *, batch_size: int, batches: int, seed: int
    ) -> None:
        self._rows = rows.shuffle(seed=seed, buffer_size=_BUFFER)
        self._collate = collate
        self._batch_size = batch_size
        self._batches = batches
        self._seed = seed
        self._epoch = 0
        self._first = 0
        self._part = slice(None)
        self._stream: Iterator[dict[str, Any]] | None = None
        self._read = 0

    def set_epoch(self, epoch: int, *, first: int = 0) -> None:
        """Make the next pass number `epoch`, beginning with batch `first`; to resume a run."""
        self._epoch, self._first = epoch, first

    def take_part(self, part: int, of: int) -> None:
        """Give of each batch only one of so many equal parts; each process reads the stream."""
        self._part = part_of(self._batch_size, part, of)

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[tuple[ExampleInputs, Tensor]]:
        epoch, self._epoch = self._epoch, self._epoch + 1
        first, self._first = self._first, 0
        start = epoch * self._batches + first
        if self._stream is None or self._read > start:
            self._stream, self._read = self._endless(), 0
        for _ in islice(self._stream, (start - self._read) * self._batch_size):
            pass
        self._read = start
        for number in range(first, self._batches):
            rows = list(islice(self._stream, self._batch_size))
            self._read += 1
            yield cut_out(self._collate(rows, self._seed, epoch, number), self._part)

    def _endless(self) -> Iterator[dict[str, Any]]:
        turn = 0
        while True:
            self._rows.set_epoch(turn)
            count = 0
            for row in self._rows:
                count += 1
                yield row
            if not count:
                raise DataError(
                    "the stream of training texts has no whole block",
                    hint="give a smaller --max-length, or more text",
                )
            turn += 1
