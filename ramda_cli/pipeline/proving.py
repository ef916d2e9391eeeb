"""The proof, before anything is written."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import nn

from ramda_cli.data.bundle import Batches, DataBundle
from ramda_cli.errors import EquivalenceError
from ramda_cli.tasks.inputs import ExampleInputs, batch_size, in_parts
from ramda_cli.training import evaluate
from ramda_cli.verification import Check, Proof, verify

_INPUTS = 64
_INPUTS_AT_ONCE = 16
_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Proven:
    """A smaller model that was found equal to the trained one.

    Attributes:
        model: what the files must compute: the trained model, or the smaller one where that was
            trained further or has weights that are products.
        proof: the comparison.
        batches: of inputs, on which outputs are compared.
        data: on whose validation part the metric is measured; None when there is none.
        before, after: the metric of the trained and of the smaller model.
        recovered: of the smaller model after it was trained further; None where it was not.
        device: where the metric is measured, in full float32. Outputs are compared on the CPU.
    """

    model: nn.Module
    proof: Proof
    batches: list[ExampleInputs]
    data: DataBundle | None = None
    before: float | None = None
    after: float | None = None
    recovered: float | None = None
    device: torch.device = _CPU

    def measure(self, model: nn.Module) -> float | None:
        """Return the metric of a model, which is on the CPU before and after."""
        if self.data is None:
            return None
        try:
            with _full_float32():
                model = model.to(self.device)
                return evaluate(model, self.data.task, self.data.val, device=self.device)
        finally:
            model.to(_CPU)


def prove(
    model: nn.Module,
    smaller: nn.Module,
    batches: Iterable[ExampleInputs],
    data: DataBundle | None = None,
    *,
    device: torch.device = _CPU,
    products: nn.Module | None = None,
) -> Proven:
    """Compare outputs on these batches and random probes, and the metric on all validation data.

    The models are on the CPU, where outputs are compared; the metric is measured on `device`.
    `products` is the trained model with the weights that factors stand for, as for `verify`.

    Raises:
        EquivalenceError: they differ by more than the tolerance.
    """
    compared = list(batches)
    proof = verify(model, smaller, compared, products=products)
    require(proof.checks)
    proven = Proven(model if products is None else smaller, proof, compared, data, device=device)
    return replace(proven, before=proven.measure(model), after=proven.measure(smaller))


def recovered(proven: Proven, smaller: nn.Module) -> Proven:
    """Return the same proof for a smaller model that has been trained since."""
    return replace(proven, model=smaller, recovered=proven.measure(smaller))


def proof_batches(val: Batches) -> Iterator[ExampleInputs]:
    """Yield the first validation inputs, a few at a time."""
    left = _INPUTS
    for inputs, _ in val:
        first = in_parts(inputs, left)[0]
        yield from in_parts(first, _INPUTS_AT_ONCE)
        left -= batch_size(first)
        if left <= 0:
            return


@contextmanager
def _full_float32() -> Iterator[None]:
    """Keep CUDA's convolutions from TensorFloat-32, whose rounding depends on the widths."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


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
