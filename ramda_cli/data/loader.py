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

from ramda_cli.data.images import Images
from ramda_cli.data.memory import image_mode
from ramda_cli.data.seeds import epoch_order, generator, seeded_everywhere
from ramda_cli.errors import DataError

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

    A pass leaves out the `first` images of its order, if that was set for it.
    """

    def __init__(self, count: int, *, shuffle: bool, seed: int) -> None:
        self.count = count
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self.first = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Key]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        first, self.first = self.first, 0
        order = epoch_order(self.count, generator(self.seed, epoch) if self.shuffle else None)
        return ((epoch, index) for index in order[first:].tolist())


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
        count = len(images.labels)
        self._batch_size = batch_size
        self._sampler = _EpochSampler(count, shuffle=shuffle, seed=seed)
        self._loader: DataLoader[Sample] = DataLoader(
            _Transformed(images, transform, image_mode(channels), seed, random=shuffle),
            batch_size=batch_size,
            sampler=self._sampler,
            num_workers=workers,
            collate_fn=_collate,
            drop_last=shuffle and count >= batch_size,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            generator=torch.Generator().manual_seed(seed),
        )

    def set_epoch(self, epoch: int, *, first: int = 0) -> None:
        """Make the next pass number `epoch`, beginning with batch `first`; to resume a run."""
        self._sampler.epoch, self._sampler.first = epoch, first * self._batch_size

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self._loader:
            if isinstance(batch, DataError):
                raise batch
            images, labels = batch
            yield images, labels


def _collate(samples: list[Sample]) -> list[Tensor] | DataError:
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
    return default_collate(samples)
