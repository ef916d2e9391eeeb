"""The proof, before anything is written."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ramda_cli.data.bundle import Batches
from ramda_cli.errors import EquivalenceError
from ramda_cli.structure.export import ExampleInputs
from ramda_cli.training import accuracy
from ramda_cli.verification import Check, Proof, verify

_IMAGES = 64
_IMAGES_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Proven:
    """A smaller model that was found equal to the trained one.

    Attributes:
        model: what the files must compute: the trained model, or the smaller one that was trained
            further.
        proof: the comparison.
        batches: of inputs, on which outputs are compared.
        val: labelled images, on which accuracy is; None when there are none.
        before, after: top-1 accuracy of the trained and of the smaller model.
        recovered: of the smaller model after it was trained further; None where it was not.
    """

    model: nn.Module
    proof: Proof
    batches: list[ExampleInputs]
    val: Batches | None = None
    before: float | None = None
    after: float | None = None
    recovered: float | None = None


def prove(
    model: nn.Module,
    smaller: nn.Module,
    batches: Iterable[ExampleInputs],
    val: Batches | None = None,
) -> Proven:
    """Compare outputs on these batches and random probes, and accuracy on all labelled images.

    Raises:
        EquivalenceError: they differ by more than the tolerance.
    """
    compared = list(batches)
    proof = verify(model, smaller, compared)
    require(proof.checks)
    if val is None:
        return Proven(model, proof, compared)
    cpu = torch.device("cpu")
    before = accuracy(model, val, device=cpu)
    return Proven(model, proof, compared, val, before, accuracy(smaller, val, device=cpu))


def recovered(proven: Proven, smaller: nn.Module) -> Proven:
    """Return the same proof for a smaller model that has been trained since."""
    if proven.val is None:
        return replace(proven, model=smaller)
    measured = accuracy(smaller, proven.val, device=torch.device("cpu"))
    return replace(proven, model=smaller, recovered=measured)


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
