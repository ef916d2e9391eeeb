"""Seeded initialization that leaves the process's random state alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ramda_cli.models.loaded import Masking, Preprocessing


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator inside the block and restore its state after it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def example_images(input_size: tuple[int, int, int]) -> torch.Tensor:
    """Return the same batch of 2 Gaussian images in every run."""
    return torch.randn(2, *input_size, generator=torch.Generator().manual_seed(0))


def example_masked_images(preprocessing: Preprocessing, masking: Masking) -> dict[str, Tensor]:
    """Return the same 2 images in every run, and for each which of its patches are hidden."""
    _, height, width = preprocessing.input_size
    patches = (height // masking.patch_size) * (width // masking.patch_size)
    draws = torch.rand(2, patches, generator=torch.Generator().manual_seed(0))
    return {
        "pixel_values": example_images(preprocessing.input_size),
        "bool_masked_pos": draws < masking.ratio,
    }
