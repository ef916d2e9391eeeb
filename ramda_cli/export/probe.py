"""The probe in a file: inputs and what the saved model gives on them, in float64.

With it any copy or export of the model is checked without data and without base weights.

Floating inputs are not stored but drawn again: uniform on [-√3, √3), mean 0 and variance 1, by
`numpy.random.RandomState`, whose stream never changes (NEP 19). Only exact arithmetic turns that
stream into inputs, so they are equal bit for bit on every machine. Other inputs, such as token
ids and masks, are stored. Of each output the probe holds at most 4096 values, and of all its
values the largest and the root mean square: neither moves by more than the largest difference of
two outputs, so that one tolerance is right for everything.
"""

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from ramda_cli.structure.running import runner
from ramda_cli.tasks.inputs import ExampleInputs

MOST_VALUES: Final = 4096
"""Of one output."""

MOST_DRAWN: Final = 2**25
MOST_STORED: Final = 2**16
"""Elements of all drawn and of all stored inputs."""

FLOATING: Final = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
INTEGER: Final = (
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A floating input that is drawn when it is needed."""

    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class StoredOutput:
    """One output tensor.

    Attributes:
        shape: of the whole.
        step: every step-th of the flattened elements is in `values`.
        values: at most 4096.
        largest: absolute value of all elements.
        rms: root mean square of all elements.
    """

    shape: tuple[int, ...]
    step: int
    values: tuple[float, ...]
    largest: float
    rms: float


@dataclass(frozen=True, eq=False)
class Probe:
    """Inputs, and the outputs of the saved model on them.

    Attributes:
        described: positional inputs as a tuple or keyword inputs as a mapping, floating ones as
            `Drawn`.
        outputs: in the order of `outputs_of`.
        seed: of the floating inputs.
    """

    described: tuple[Any, ...] | Mapping[str, Any]
    outputs: tuple[StoredOutput, ...]
    seed: int = 0

    def inputs(self) -> ExampleInputs:
        """Return the inputs, as for `discover`."""
        stream = np.random.RandomState(self.seed)
        return _filled(self.described, stream)

    @property
    def scale(self) -> float:
        """The largest absolute output."""
        return max((output.largest for output in self.outputs), default=0.0)

    def difference(self, outputs: Sequence[Tensor]) -> float:
        """Return the largest absolute difference found; NaN if there is none to be had."""
        if not self.outputs or [o.shape for o in self.outputs] != [tuple(t.shape) for t in outputs]:
            return math.nan
        found = [_difference(o, t) for o, t in zip(self.outputs, outputs, strict=True)]
        return math.nan if any(map(math.isnan, found)) else max(found)


def make_probe(model: nn.Module, example: ExampleInputs) -> Probe | None:
    """Run a model on inputs like these, in float64.

    Returns:
        None when such inputs cannot be described, are too many, or give no finite output.
    """
    described = describe(example)
    if described is None:
        return None
    inputs = Probe(described, ()).inputs()
    outputs = tuple(_stored(tensor) for tensor in runner(model, torch.float64)(inputs))
    finite = all(math.isfinite(output.rms) for output in outputs)
    return Probe(described, outputs) if outputs and finite else None


def describe(example: ExampleInputs) -> tuple[Any, ...] | Mapping[str, Any] | None:
    """Return inputs with `Drawn` for floating tensors; None where a probe cannot hold them."""
    whole = (example,) if isinstance(example, Tensor) else example
    try:
        described = _described(dict(whole) if isinstance(whole, Mapping) else tuple(whole))
    except TypeError:
        return None
    return described if within_bounds(described) else None


def within_bounds(described: Any) -> bool:
    """Tell whether the inputs are few enough to be drawn and stored, and none is empty."""
    leaves = list(_leaves(described))
    drawn = [math.prod(leaf.shape) for leaf in leaves if isinstance(leaf, Drawn)]
    stored = [leaf.numel() for leaf in leaves if isinstance(leaf, Tensor)]
    few = sum(drawn) <= MOST_DRAWN and sum(stored) <= MOST_STORED
    return few and 0 not in (*drawn, *stored)


def checksum(inputs: ExampleInputs) -> str:
    """Return the SHA-256 of all input tensors' bytes, little-endian, in order."""
    digest = hashlib.sha256()
    for leaf in _leaves(inputs):
        if isinstance(leaf, Tensor):
            digest.update(leaf.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _described(value: Any) -> Any:
    match value:
        case Tensor() if value.dtype in FLOATING:
            return Drawn(value.dtype, tuple(value.shape))
        case Tensor() if value.dtype in INTEGER:
            return value.detach().cpu()
        case None | bool() | int() | str():
            return value
        case float() if math.isfinite(value):
            return value
        case list() | tuple():
            return type(value)(_described(item) for item in value)
        case dict():
            return {str(key): _described(item) for key, item in value.items()}
    raise TypeError(f"an input of type {type(value).__name__}")


def _filled(value: Any, stream: np.random.RandomState) -> Any:
    match value:
        case Drawn():
            uniform = torch.from_numpy(stream.random_sample(math.prod(value.shape)))
            return ((uniform - 0.5) * (2 * math.sqrt(3))).to(value.dtype).reshape(value.shape)
        case list() | tuple():
            return type(value)(_filled(item, stream) for item in value)
        case dict():
            return {key: _filled(item, stream) for key, item in value.items()}
    return value


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping | list | tuple):
        nested: Iterable[Any] = value.values() if isinstance(value, Mapping) else value
        for item in nested:
            yield from _leaves(item)
    else:
        yield value


def _stored(tensor: Tensor) -> StoredOutput:
    flat = _flat(tensor)
    step = _step(flat.numel())
    values = tuple(flat[::step].tolist())
    return StoredOutput(tuple(tensor.shape), step, values, *_summary(flat))


def _step(elements: int) -> int:
    """Return the least step that leaves few enough values and visits every row and column."""
    least = max(1, math.ceil(elements / MOST_VALUES))
    return next(step for step in itertools.count(least) if math.gcd(step, elements) == 1)


def _difference(expected: StoredOutput, tensor: Tensor) -> float:
    flat = _flat(tensor)
    largest, rms = _summary(flat)
    values = torch.tensor(expected.values, dtype=torch.float64)
    found = [largest - expected.largest, rms - expected.rms]
    found += (flat[:: expected.step] - values).tolist()
    return float(torch.tensor(found, dtype=torch.float64).abs().max())


def _flat(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float64).reshape(-1)


def _summary(flat: Tensor) -> tuple[float, float]:
    """Return the largest absolute value and the root mean square; 0 of nothing."""
    if not flat.numel():
        return 0.0, 0.0
    return float(flat.abs().max()), float(flat.square().mean().sqrt())
