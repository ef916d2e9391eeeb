"""Batches of token ids, padded to the longest of each, from rows on disk.

Training batches are of texts of about one length: rows are shuffled, sorted by length within
stretches of 50 batches, and the batches shuffled again. The order depends on (seed, pass) alone.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import Tensor

from ramda_cli.data.bundle import cut_out, part_of
from ramda_cli.data.seeds import epoch_order, generator
from ramda_cli.tasks.inputs import ExampleInputs

_STRETCH = 50


class Collate(Protocol):
    """Makes a batch of rows."""

    def __call__(self, rows: list[dict[str, Any]], *key: int) -> tuple[ExampleInputs, Tensor]:
        """Return inputs and targets; what is drawn depends on `key` alone."""


class TextBatches:
    """A loader of token ids.

    Args:
        rows: of the columns that tokenising gives.
        collate: pads and masks.
        batch_size: rows per batch.
        shuffle: draws a new order in each pass and drops an incomplete last batch; otherwise the
            longest come first.
        seed: of the order.
    """

    def __init__(
        self, rows: Dataset, collate: Collate, *, batch_size: int, shuffle: bool, seed: int
    ) -> None:
        self._rows = rows
        self._collate = collate
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._seed = seed
        self._epoch = 0
        self._first = 0
        self._part: slice | None = None
        # From Arrow, which maps the file: as Python lists they may not fit memory.
        stored = rows.with_format("arrow")[:]["input_ids"]
        self._lengths = pc.list_value_length(stored).to_numpy()
        self._targets: Tensor | None = None

    def set_epoch(self, epoch: int, *, first: int = 0) -> None:
        """Make the next pass number `epoch`, beginning with batch `first`; to resume a run."""
        self._epoch, self._first = epoch, first

    def take_part(self, part: int, of: int) -> None:
        """Give of each batch only one of so many equal parts."""
        self._part = part_of(min(self._batch_size, len(self._lengths)), part, of)

    def aim_at(self, targets: Tensor) -> None:
        """Give every row, by its number, a target that the rows do not have."""
        self._targets = targets

    def __len__(self) -> int:
        count = len(self._lengths)
        if self._shuffle and count >= self._batch_size:
            return count // self._batch_size
        return -(-count // self._batch_size)

    def __iter__(self) -> Iterator[tuple[ExampleInputs, Tensor]]:
        epoch, self._epoch = self._epoch, self._epoch + 1
        first, self._first = self._first, 0
        draw = epoch if self._shuffle else 0
        for number, indices in enumerate(self.order(epoch)[first:], start=first):
            inputs, targets = self._collate(self._read(indices), self._seed, draw, number)
            if self._targets is not None:
                targets = self._targets[torch.from_numpy(indices)]
            batch = inputs, targets
            yield batch if self._part is None else cut_out(batch, self._part)

    def in_order(self) -> Iterator[ExampleInputs]:
        """Yield the inputs of all rows, in the order of their numbers."""
        for indices in _split(np.arange(len(self._lengths)), self._batch_size):
            yield self._collate(self._read(indices), self._seed, 0, 0)[0]

    def _read(self, indices: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
        stored = self._rows[indices.tolist()]
        return [dict(zip(stored, row, strict=True)) for row in zip(*stored.values(), strict=True)]

    def order(self, epoch: int) -> list[np.ndarray[Any, Any]]:
        """Return the rows of each batch of a pass."""
        size = self._batch_size
        if not self._shuffle:
            return _split(np.argsort(-self._lengths, kind="stable"), size)
        draws = generator(self._seed, epoch)
        order = epoch_order(len(self._lengths), draws).numpy()
        stretch = size * _STRETCH
        batches: list[np.ndarray[Any, Any]] = []
        for at in range(0, len(order), stretch):
            part = order[at : at + stretch]
            batches += _split(part[np.argsort(-self._lengths[part], kind="stable")], size)
        if len(batches) > 1 and len(batches[-1]) < size:
            batches.pop()
        return [batches[at] for at in torch.randperm(len(batches), generator=draws).tolist()]


def _split(order: np.ndarray[Any, Any], size: int) -> list[np.ndarray[Any, Any]]:
    return [order[at : at + size] for at in range(0, len(order), size)]
