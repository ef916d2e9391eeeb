"""The proof on this run's data, before anything is written."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ramda_cli.data.bundle import Batches, DataBundle
from ramda_cli.errors import EquivalenceError
from ramda_cli.training import accuracy
from ramda_cli.verification import Check, Proof, verify

_IMAGES = 64
_IMAGES_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Proven:
    """A smaller model that was found equal to the trained one.

    Attributes:
        model: the trained model.
        proof: the comparison.
        before, after: top-1 accuracy of the trained and of the smaller model.
    """

    model: nn.Module
    proof: Proof
    before: float
    after: float


def prove(model: nn.Module, smaller: nn.Module, data: DataBundle) -> Proven:
    """Compare outputs on validation images and random probes, and accuracy on all of them.

    Raises:
        EquivalenceError: they differ by more than the tolerance.
    """
    proof = verify(model, smaller, list(proof_batches(data.val)))
    require(proof.checks)
    cpu = torch.device("cpu")
    before = accuracy(model, data.val, device=cpu)
    return Proven(model, proof, before, accuracy(smaller, data.val, device=cpu))


def proof_batches(val: Batches) -> Iterator[Tensor]:
    """Yield the first validation images, a few at a time."""
    left = _IMAGES
    for images, _ in val:
        yield from images[:left].split(_IMAGES_AT_ONCE)
        left -= len(images)
        if left <= 0:
            return


def require(checks: tuple[Check, ...]) -> None:
    """Refuse to go on after a failed comparison.

    Raises:
        EquivalenceError: naming the first that failed.
    """
    for check in checks:
        if not check.passed:
            raise EquivalenceError(
                f"{check.name} differs in {check.dtype} by {check.max_abs_difference:.3g}, "
                f"more than the tolerance {check.tolerance:.3g}",
                hint="no result was kept; please report the model, this should not happen",
            )
