"""What is measured by default, the report's entry for it, and the clock of a latency target."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from ramda_cli.benchmark import Measurement, Plan, Runtime, Timing, measure
from ramda_cli.errors import BenchError, ConfigError, first_line
from ramda_cli.latency import model_of_widths
from ramda_cli.observer import Observer, SilentObserver
from ramda_cli.pipeline.devices import device_name
from ramda_cli.report.document import Latency, LatencyEntry, RatioEntry, TimingEntry
from ramda_cli.structure import Structure, discover
from ramda_cli.structure.matrices import Matrix
from ramda_cli.structure.size_terms import Counts
from ramda_cli.surgery.factorize import thin_model
from ramda_cli.tasks.inputs import ExampleInputs

_SECONDS = 4.0
"""For measuring a choice of channels beside the dense model."""


@dataclass(frozen=True, eq=False)
class Stopwatch:
    """Measures smaller models of given widths, as the benchmark at the end of a run does.

    Attributes:
        dense: on the CPU, in evaluation mode; left as it is.
        structure: of it.
        inputs: its example inputs.
        device: where to measure.
        dense_ns: the dense model's nanoseconds, of which the result is then the measured share.
        observer: is told of what was measured.
        matrices: weights that may lose ranks, which are counted after the groups.
        readings: what was measured so far, by the kept channels.
    """

    dense: nn.Module
    structure: Structure
    inputs: ExampleInputs
    device: torch.device
    dense_ns: float | None
    observer: Observer
    matrices: tuple[Matrix, ...] = ()
    readings: dict[tuple[float, ...], float] = field(default_factory=dict)

    def __call__(self, kept: Counts) -> float | None:
        """Return the nanoseconds at batch 1 of a model of so many channels in each group.

        None where it cannot be measured, which is no reason for a run to end.
        """
        plan = Plan(
            self.device, ("eager",), (1,), threads=torch.get_num_threads(), seconds=_SECONDS
        )
        try:
            smaller = self._model_of(kept)
            (measured,) = measure(self.dense, smaller, self.inputs, plan, SilentObserver())
        except (BenchError, torch.OutOfMemoryError) as error:
            self.observer.note(f"the channels follow the latency table alone: {first_line(error)}")
            return None
        found = 1e6 * measured.pruned.median_ms
        if self.dense_ns is not None and measured.speedup is not None:
            found = self.dense_ns / measured.speedup.median
        self.observer.stage("latency", f"{found / 1e6:.3g} ms with the channels chosen")
        self.readings[tuple(kept.tolist())] = found
        return found

    def _model_of(self, kept: Counts) -> nn.Module:
        if not self.matrices:
            return model_of_widths(self.dense, self.structure, kept)
        groups = len(self.structure.groups)
        counts = zip(self.matrices, kept[groups:], strict=True)
        ranks = {each.layer: int(rank) for each, rank in counts if rank < each.full_rank}
        thin = thin_model(self.dense, ranks)
        if not groups:
            return thin
        wanted = {
            group.name: count
            for group, count in zip(self.structure.groups, kept[:groups], strict=True)
        }
        found = discover(thin, self.inputs)
        widths = [wanted.get(group.name, group.channels) for group in found.groups]
        return model_of_widths(thin, found, np.array(widths, dtype=np.float64))


def plan_benchmark(
    device: torch.device,
    *,
    seconds: float,
    runtimes: Sequence[Runtime] = (),
    batch_sizes: Sequence[int] = (),
    threads: int | None = None,
) -> Plan:
    """Fill in what was not asked for.

    Batch 1, and 32 on a CPU or 256 on CUDA. On a CPU torch and ONNX Runtime; on CUDA torch alone,
    as this package's ONNX Runtime computes on the CPU. torch.compile on request: it may take a
    minute for each model and batch size, and needs a compiler.

    Raises:
        ConfigError: ONNX Runtime is asked for on CUDA.
    """
    cuda = device.type == "cuda"
    if cuda and "onnx" in runtimes:
        raise ConfigError(
            "ONNX Runtime is measured on the CPU", hint="give --device cpu with --runtime onnx"
        )
    chosen: Sequence[Runtime] = runtimes or (("eager",) if cuda else ("eager", "onnx"))
    return Plan(
        device=device,
        runtimes=tuple(dict.fromkeys(chosen)),
        batch_sizes=tuple(sorted(set(batch_sizes or (1, 256 if cuda else 32)))),
        threads=threads or torch.get_num_threads(),
        seconds=seconds,
    )


def measure_latency(
    dense: nn.Module | None,
    pruned: nn.Module,
    example_inputs: ExampleInputs,
    plan: Plan,
    observer: Observer,
) -> Latency:
    """Measure as `ramda_cli.benchmark.measure`, and return the report's entry."""
    measured = measure(dense, pruned, example_inputs, plan, observer)
    return Latency(
        device=device_name(plan.device),
        threads=plan.threads,
        measurements=tuple(_entry(each) for each in measured),
    )


def _entry(measured: Measurement) -> LatencyEntry:
    speedup = measured.speedup
    return LatencyEntry(
        runtime=measured.runtime,
        batch_size=measured.batch_size,
        rounds=measured.rounds,
        dense=None if measured.dense is None else _timing(measured.dense),
        pruned=_timing(measured.pruned),
        speedup=None
        if speedup is None
        else RatioEntry(median=speedup.median, low=speedup.low, high=speedup.high),
    )


def _timing(timing: Timing) -> TimingEntry:
    return TimingEntry(
        median_ms=timing.median_ms,
        p90_ms=timing.p90_ms,
        inputs_per_second=timing.inputs_per_second,
        peak_bytes=timing.peak_bytes,
    )
