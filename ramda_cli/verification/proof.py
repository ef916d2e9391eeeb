"""The proof: the smaller model computes the same function as the trained one."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ramda_cli.structure.running import runner
from ramda_cli.tasks.inputs import ExampleInputs, batch_size

FLOAT64_TOLERANCE = 1e-9
WORKING_TOLERANCE = 1e-4
"""Relative to the largest output. In float32 the two models sum the same terms in another order."""

_PROBES = 2
_NAME = "smaller model against trained model"


@dataclass(frozen=True)
class Check:
    """One comparison over one or more batches.

    Attributes:
        name: what was compared.
        dtype: in which precision.
        inputs: examples compared, up to the first of another shape.
        max_abs_difference: the largest over all outputs; NaN when an output is not finite, when
            the shapes differ, and when nothing was compared.
        scale: the largest absolute output of the original.
        relative_tolerance: allowed difference per `scale`.
    """

    name: str
    dtype: str
    inputs: int
    max_abs_difference: float
    scale: float
    relative_tolerance: float

    @property
    def tolerance(self) -> float:
        """The largest difference that passes."""
        return self.relative_tolerance * self.scale

    @property
    def relative_difference(self) -> float:
        """The largest difference per largest output."""
        return self.max_abs_difference / self.scale if self.scale else self.max_abs_difference

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance; a NaN is not."""
        return self.max_abs_difference <= self.tolerance


@dataclass(frozen=True)
class Proof:
    """All comparisons; the strictest is named first.

    Attributes:
        checks: in the order they were made.
    """

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether there is a check and every one passed."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def max_abs_difference(self) -> float:
        """Of the float64 comparison."""
        return self.checks[0].max_abs_difference

    @property
    def tolerance(self) -> float:
        """Of the float64 comparison, absolute."""
        return self.checks[0].tolerance


def verify(
    model: nn.Module,
    smaller: nn.Module,
    example_inputs: ExampleInputs | list[ExampleInputs],
    *,
    seed: int = 0,
    products: nn.Module | None = None,
) -> Proof:
    """Compare two models in evaluation mode, in float64 and in their working precision.

    Compared are the given inputs and, for each kind of input, random probes of the same shape.

    Args:
        model: the trained model with zero channels.
        smaller: the model without them.
        example_inputs: one batch, or a list of batches.
        seed: of the probes.
        products: the trained model in float64, with the products in place of the weights that have
            become two layers: factors are rounded to the working precision, in which the smaller
            model is compared with the trained one as it is.
    """
    batches: list[ExampleInputs] = (
        list(example_inputs) if isinstance(example_inputs, list) else [example_inputs]
    )
    generator = torch.Generator().manual_seed(seed)
    probes = [_probe(batches[0], generator) for _ in range(_PROBES)]
    every = [*batches, *probes]
    with torch.no_grad():
        wide = compare(
            _NAME if products is None else f"{_NAME}, factors multiplied",
            runner(model if products is None else products, torch.float64),
            runner(smaller, torch.float64),
            every,
            dtype="float64",
            relative_tolerance=FLOAT64_TOLERANCE,
        )
        dtype = _working_dtype(model)
        working = compare(
            _NAME,
            runner(model, dtype),
            runner(smaller, dtype),
            every,
            dtype=str(dtype).removeprefix("torch."),
            relative_tolerance=WORKING_TOLERANCE if dtype == torch.float32 else _coarse(dtype),
        )
    return Proof((wide, working))


def compare(
    name: str,
    expected: Callable[[ExampleInputs], list[Tensor]],
    actual: Callable[[ExampleInputs], list[Tensor]],
    batches: Iterable[ExampleInputs],
    *,
    dtype: str,
    relative_tolerance: float,
) -> Check:
    """Compare two functions on the same batches."""
    differences, scales = [], []
    examples = 0
    for batch in batches:
        ours, theirs = expected(batch), actual(batch)
        if [t.shape for t in ours] != [t.shape for t in theirs]:
            differences.append(math.nan)
            break
        examples += batch_size(batch)
        for one, other in zip(ours, theirs, strict=True):
            if one.numel():
                wide = one.double()
                differences.append(float((wide - other.double().to(one.device)).abs().max()))
                scales.append(float(wide.abs().max()))
    return Check(
        name, dtype, examples, _largest(differences), max(scales, default=0.0), relative_tolerance
    )


def _largest(differences: Sequence[float]) -> float:
    """Return the maximum; NaN if there is one among them (max() may miss it) or nothing at all."""
    undefined = not differences or any(math.isnan(difference) for difference in differences)
    return math.nan if undefined else max(differences)


def _probe(batch: ExampleInputs, generator: torch.Generator) -> ExampleInputs:
    """Return random inputs of the same shapes; integer inputs are shuffled along the batch."""

    def draw(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if leaf.is_floating_point():
            return torch.randn(leaf.shape, generator=generator, dtype=torch.float64).to(leaf.dtype)
        if leaf.ndim == 0:
            return leaf
        return leaf[torch.randperm(leaf.shape[0], generator=generator)]

    return pytree.tree_map(draw, dict(batch) if isinstance(batch, Mapping) else batch)


def _working_dtype(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def _coarse(dtype: torch.dtype) -> float:
    """Return a tolerance for a precision other than float32: about 100 roundings."""
    return 100 * torch.finfo(dtype).eps
