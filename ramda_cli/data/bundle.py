"""What building the data gives: loaders and what a report says of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from ramda_cli.errors import ConfigError
from ramda_cli.tasks import IMAGE_CLASSIFICATION, Task
from ramda_cli.tasks.inputs import ExampleInputs, rows_of


class Batches(Protocol):
    """A loader: sized, and iterable again and again over (inputs, targets)."""

    def __len__(self) -> int:
        """Count the batches of a pass."""

    def __iter__(self) -> Iterator[tuple[ExampleInputs, Tensor]]:
        """Start a pass."""


class ShuffledBatches(Batches, Protocol):
    """A loader whose order and augmentation depend on its seed and the number of the pass."""

    def set_epoch(self, epoch: int, *, first: int = 0) -> None:
        """Make the next pass number `epoch`, and begin it with batch number `first`.

        Passes are counted from 0 by themselves, and begin with batch 0. What a batch holds does not
        depend on where its pass began, so that a resumed run sees the same ones.
        """

    def take_part(self, part: int, of: int) -> None:
        """Give of each batch only one of so many equal parts, for processes that share the work.

        Raises:
            ConfigError: batches cannot be divided so.
        """


def part_of(size: int, part: int, of: int) -> slice:
    """Return which examples of a batch are one of so many equal parts.

    Raises:
        ConfigError: it cannot be divided so.
    """
    if size % of:
        raise ConfigError(
            f"a batch of {size} cannot be shared out among {of} processes",
            hint=f"give a --batch-size that is a multiple of {of}",
        )
    each = size // of
    return slice(part * each, (part + 1) * each)


def cut_out(batch: tuple[ExampleInputs, Tensor], part: slice) -> tuple[ExampleInputs, Tensor]:
    """Return some examples of a batch."""
    inputs, targets = batch
    return rows_of(inputs, part), targets[part]


@dataclass(frozen=True, eq=False)
class DataBundle:
    """Training and validation data for a task.

    Attributes:
        train: loader of inputs and targets: float32 images N x C x H x W with int64 labels N, or
            the keyword inputs of a text model with what its task aims at; a new order and
            augmentation in each pass, without an incomplete last batch.
        val: loader of the same over all validation examples, in a fixed order.
        class_names: in label order; none where there are no classes to tell apart.
        train_size, val_size: examples.
        description: one line for the report: name, splits, sizes.
        fingerprint: hexadecimal digest that changes when the data does.
        notes: what building found worth telling, in sentences for the user.
        hub_id: of a data set from the Hugging Face hub.
        task: what is learned.
        unit: what an example is, in the plural.
        tokenizer: of transformers, where the vocabulary was learned from the data.
    """

    train: ShuffledBatches
    val: Batches
    class_names: tuple[str, ...]
    train_size: int
    val_size: int
    description: str
    fingerprint: str
    notes: tuple[str, ...] = ()
    hub_id: str | None = None
    task: Task = IMAGE_CLASSIFICATION
    unit: str = "images"
    tokenizer: Any = None
