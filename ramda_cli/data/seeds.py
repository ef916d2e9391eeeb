"""Random numbers that depend on (seed, epoch, image) alone, whatever the number of workers."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def mixed_seed(*parts: int) -> int:
    """Return one seed below 2^32 for a tuple of non-negative integers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def generator(seed: int, epoch: int) -> torch.Generator:
    """Return a fresh generator for one pass over the data."""
    return torch.Generator().manual_seed(mixed_seed(seed, epoch))


def epoch_order(count: int, randomness: torch.Generator | None) -> torch.Tensor:
    """Return a random order of `count` images, or their own order without a generator."""
    if randomness is None:
        return torch.arange(count)
    return torch.randperm(count, generator=randomness)


@contextmanager
def seeded_everywhere(*parts: int) -> Iterator[None]:
    """Seed `random`, NumPy and torch's CPU generator inside the block; restore all three after.

    timm's and torchvision's transforms draw from these global generators.
    """
    seed = mixed_seed(*parts)
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
