"""Images that do not fit memory: decoded and transformed in loader processes.

Each training image is transformed under a seed of its own, made of (seed, epoch, index): order and
augmentation do not depend on the number of workers. An image that cannot be read comes back from a
worker as a value and is raised here, because torch rewrites the message of a worker's exception.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from ramda_cli.data.bundle import part_of
from ramda_cli.data.images import Images
from ramda_cli.data.memory import image_mode
from ramda_cli.data.seeds import epoch_order, generator, seeded_everywhere
from ramda_cli.errors import DataError, first_line

Key = tuple[int, int]
Sample = tuple[Tensor, int] | DataError


@dataclass(frozen=True, eq=False)
class _Transformed(Dataset[Sample]):
    """Images after their transform, addressed by (epoch, index)."""

    images: Images
    transform: Callable[[Image], Tensor]
    mode: str
    seed: int
    random: bool

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        try:
            image = self.images.read(index).convert(self.mode)
        except DataError as error:
            return error
        seeds = seeded_everywhere(self.seed, epoch, index) if self.random else nullcontext()
        with seeds:
            return self.transform(image), int(self.images.labels[index])


class _EpochSampler(Sampler[Key]):
    """Yields (epoch, index): the workers learn the epoch from the key.

    Args:
        count: of images.
        batch_size: images of a batch, over all processes that share it.
        part: which of them this process takes; the whole one where it shares with nobody.
        shuffle: draws an order in each pass.
        seed: of the order.

    Attributes:
        epoch: number of the next pass.
        first: batch with which it begins.
    """

    def __init__(
        self, count: int, *, batch_size: int, part: slice | None, shuffle: bool, seed: int
    ) -> None:
        self._count = count
        self._batch_size = batch_size
        self._part = part
        self._shuffle = shuffle
        self._seed = seed
        self.epoch = 0
        self.first = 0

    def __len__(self) -> int:
        if self._part is None:
            return self._count
        return (self._count // self._batch_size) * (self._part.stop - self._part.start)

    def __iter__(self) -> Iterator[Key]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        first, self.first = self.first, 0
        randomness = generator(self._seed, epoch) if self._shuffle else None
        order = epoch_order(self._count, randomness)[first * self._batch_size :]
        if self._part is not None:
            whole = len(order) // self._batch_size * self._batch_size
            order = order[:whole].view(-1, self._batch_size)[:, self._part].flatten()
        return ((epoch, index) for index in order.tolist())


class LoaderBatches:
    """A loader that decodes in each pass.

    Args:
        images: what to load.
        transform: from an image to the model's input.
        channels: of the model's input.
        batch_size: images per batch.
        shuffle: draws a new order in each pass, seeds the transform and drops an incomplete last
            batch.
        workers: processes; 0 loads in this one.
        seed: of order and transform.
    """

    def __init__(
        self,
        images: Images,
        transform: Callable[[Image], Tensor],
        *,
        channels: int,
        batch_size: int,
        shuffle: bool,
        workers: int,
        seed: int = 0,
    ) -> None:
        self._images = _Transformed(images, transform, image_mode(channels), seed, random=shuffle)
        self._count = len(images.labels)
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._workers = workers
        self._seed = seed
        self._open(None)

    def _open(self, part: slice | None) -> None:
        size = self._batch_size
        self._sampler = _EpochSampler(
            self._count, batch_size=size, part=part, shuffle=self._shuffle, seed=self._seed
        )
        self._loader: DataLoader[Sample] = DataLoader(
            self._images,
            batch_size=size if part is None else part.stop - part.start,
            sampler=self._sampler,
            num_workers=self._workers,
            collate_fn=_collate,
            drop_last=self._shuffle and self._count >= size,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self._workers > 0,
            generator=torch.Generator().manual_seed(self._seed),
        )

    def take_part(self, part: int, of: int) -> None:
        """Give of each batch only one of so many equal parts, and load no more than that."""
        if self._count < self._batch_size:
            self._batch_size = self._count
        self._open(part_of(self._batch_size, part, of))

    def set_epoch(self, epoch: int, *, first: int = 0) -> None:
        """Make the next pass number `epoch`, beginning with batch `first`; to resume a run."""
        self._sampler.epoch, self._sampler.first = epoch, first

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        batches = iter(self._loader)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if not is_worker_death(error):
                    raise
                raise worker_died(first_line(error)) from error
            except (OSError, EOFError) as error:
                if self._workers == 0:
                    raise
                raise worker_died("DataLoader worker gone before its batch was fetched") from error
            if isinstance(batch, DataError):
                raise batch
            images, labels = batch
            yield images, labels


def is_worker_death(error: BaseException) -> bool:
    """Tell whether torch says that a loader process died: it does so wherever the host is then."""
    return isinstance(error, RuntimeError) and "DataLoader worker" in str(error)


def worker_died(what: str) -> DataError:
    """Return what the user is told of it."""
    return DataError(
        f"a loader process died: {what}",
        hint="memory may be short: give fewer --workers, or 0 to load in this process",
    )


def _collate(samples: list[Sample]) -> list[Tensor] | DataError:
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
    return default_collate(samples)
