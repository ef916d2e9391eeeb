"""The dense and the pruned model in turns, in every runtime and at every batch size."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ramda_cli.benchmark.inputs import batch_of
from ramda_cli.benchmark.runtimes import (
    Runner,
    Runtime,
    onnx_runner,
    thread_count,
    torch_runner,
)
from ramda_cli.benchmark.statistics import Ratio, Timing, paired_ratio, timing
from ramda_cli.benchmark.turns import take_turns
from ramda_cli.errors import BenchError, OutputError, StructureError, first_line
from ramda_cli.observer import Observer
from ramda_cli.tasks.inputs import ExampleInputs, moved, split_inputs

# What a model's own code raises for inputs that it does not take.
_FAILURES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
_OTHER_FILE = "measure a file of `ramda prune`, beside the model that it was made from"
_OTHER_FLAGS = "give another --batch-size or --runtime"


@dataclass(frozen=True)
class Plan:
    """What to measure, and for how long.

    Attributes:
        device: where torch computes; ONNX Runtime computes on the CPU.
        runtimes, batch_sizes: every pair of them is measured.
        threads: of torch and of ONNX Runtime, on the CPU.
        seconds: in all, shared equally; building and compiling not counted.
    """

    device: torch.device
    runtimes: tuple[Runtime, ...]
    batch_sizes: tuple[int, ...]
    threads: int
    seconds: float

    @property
    def share(self) -> float:
        """The seconds of one measurement."""
        return self.seconds / (len(self.runtimes) * len(self.batch_sizes))


@dataclass(frozen=True)
class Measurement:
    """Both models in one runtime at one batch size.

    Attributes:
        rounds: measured turns of each model.
        dense, speedup: None when no dense model was measured.
    """

    runtime: Runtime
    batch_size: int
    rounds: int
    dense: Timing | None
    pruned: Timing
    speedup: Ratio | None


def measure(
    dense: nn.Module | None,
    pruned: nn.Module,
    example_inputs: ExampleInputs,
    plan: Plan,
    observer: Observer,
) -> tuple[Measurement, ...]:
    """Time the models, in fp32 and the plain memory format, without gradients.

    Args:
        dense: None to time the pruned model alone.
        pruned: as `dense` in evaluation mode; both are left as they are.
        example_inputs: as for `discover`.
        plan: what to measure.
        observer: is told of each measurement before it starts.

    Raises:
        BenchError: a model cannot be run so, or the two do not give outputs of the same shapes.
    """
    models = [pruned] if dense is None else [dense, pruned]
    _check_outputs(models, example_inputs)
    measured = []
    with thread_count(plan.threads), tempfile.TemporaryDirectory() as folder:
        for runtime in plan.runtimes:
            observer.stage("bench", f"{runtime}, preparing")
            arms = _arms(models, runtime, example_inputs, plan, Path(folder))
            for size in plan.batch_sizes:
                observer.stage("bench", f"{runtime} at batch {size}")
                batch = moved(batch_of(example_inputs, size), plan.device)
                with torch.inference_mode():
                    measured.append(_measure_one(arms, runtime, size, batch, plan))
    return tuple(measured)


@dataclass(frozen=True, eq=False)
class _Arm:
    model: nn.Module
    run: Runner


def _check_outputs(models: Sequence[nn.Module], example_inputs: ExampleInputs) -> None:
    shapes = []
    for model in models:
        args, kwargs = split_inputs(example_inputs)
        with _naming(model, "on its example inputs", _OTHER_FILE), torch.inference_mode():
            leaves = pytree.tree_leaves(model(*args, **kwargs))
        shapes.append([tuple(leaf.shape) for leaf in leaves if isinstance(leaf, Tensor)])
    if any(shape != shapes[0] for shape in shapes):
        raise BenchError(
            f"the dense model gives outputs of shape {shapes[0]}, the pruned one {shapes[1]}",
            hint=_OTHER_FILE,
        )


@contextlib.contextmanager
def _naming(model: nn.Module, how: str, hint: str) -> Iterator[None]:
    """Turn what a model raises into an error for the user."""
    try:
        yield
    except (OutputError, *_FAILURES) as error:
        raise BenchError(
            f"{type(model).__name__} cannot be run {how}: {first_line(error)}", hint=hint
        ) from error


def _arms(
    models: Sequence[nn.Module],
    runtime: Runtime,
    example_inputs: ExampleInputs,
    plan: Plan,
    folder: Path,
) -> list[_Arm]:
    if runtime != "onnx":
        compiled = runtime == "compile"
        return [_Arm(m, torch_runner(m, device=plan.device, compiled=compiled)) for m in models]
    try:
        return [
            _Arm(m, onnx_runner(m, example_inputs, folder / f"{i}.onnx", threads=plan.threads))
            for i, m in enumerate(models)
        ]
    except (OutputError, StructureError) as error:
        raise BenchError(
            f"the model cannot be measured in ONNX Runtime: {error}",
            hint="leave that out with --runtime eager",
        ) from error


def _measure_one(
    arms: Sequence[_Arm], runtime: Runtime, size: int, batch: ExampleInputs, plan: Plan
) -> Measurement:
    torch.compiler.reset()  # else a model's ninth batch size would silently run uncompiled
    how = f"in {runtime} at batch {size}"
    peaks = [_first_call(arm, batch, how, plan.device) for arm in arms]
    turns = take_turns([partial(arm.run, batch) for arm in arms], seconds=plan.share)
    timings = [
        timing([s for turn in own for s in turn], batch_size=size, peak_bytes=peak)
        for own, peak in zip(turns, peaks, strict=True)
    ]
    alone = len(arms) == 1
    return Measurement(
        runtime=runtime,
        batch_size=size,
        rounds=len(turns[0]),
        dense=None if alone else timings[0],
        pruned=timings[-1],
        speedup=None if alone else paired_ratio(*turns),
    )


def _first_call(arm: _Arm, batch: ExampleInputs, how: str, device: torch.device) -> int | None:
    """Run once, which compiles what is to be compiled, and return the peak of the memory.

    Counted are the model's own tensors and what a call allocates; None off CUDA.
    """
    with _naming(arm.model, how, _OTHER_FLAGS):
        arm.run(batch)
        if device.type != "cuda":
            return None
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        arm.run(batch)
    used = torch.cuda.max_memory_allocated(device) - before
    return used + sum(t.nbytes for t in (*arm.model.parameters(), *arm.model.buffers()))
