"""The benchmarks of a model and of the optimizer, in a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ramda_cli.report.benchmark import Benchmark
from ramda_cli.report.document import Latency, TimingEntry
from ramda_cli.report.formatting import count, percent, size_bytes, text_of
from ramda_cli.report.plain import parse_benchmark
from ramda_cli.report.speed import (
    milliseconds,
    ratio,
    runtime_name,
    speed_sentence,
    threads,
)
from ramda_cli.report.tables import facts, titled_table


def render_bench(document: object, console: Console) -> None:
    """Print what `ramda bench FILE` measured.

    Raises:
        FileFormatError: if `document` is not a benchmark of this schema.
    """
    benchmark = parse_benchmark(document)
    console.print()
    console.print(facts(_origin(benchmark)))
    console.print()
    console.print(_measurements(benchmark.latency))
    console.print(text_of(speed_sentence(benchmark.latency), style="bold"))
    for note in benchmark.notes:
        console.print(Text("note: ", style="yellow") + text_of(note))


def _origin(benchmark: Benchmark) -> list[tuple[str, Text]]:
    latency = benchmark.latency
    versions = ", ".join(f"{name} {version}" for name, version in benchmark.versions.items())
    dense = benchmark.dense or "not measured"
    return [
        ("pruned", text_of(benchmark.file)),
        ("dense", text_of(dense)),
        ("device", text_of(f"{latency.device}, {threads(latency.threads)}")),
        ("measured", text_of(f"in turns, fp32, with {versions}, {benchmark.date}")),
    ]


def _measurements(latency: Latency) -> Table:
    """Return a row for each model in each runtime at each batch size; memory where measured."""
    entries = latency.measurements
    memory = any(entry.pruned.peak_bytes is not None for entry in entries)
    columns = ["model", "median", "p90", "inputs/s", *(["memory"] if memory else []), "speed-up"]
    table = titled_table("latency", columns, right=range(2, len(columns) + 1))

    def add(label: str, model: str, timing: TimingEntry, speedup: str) -> None:
        row = [milliseconds(timing.median_ms), milliseconds(timing.p90_ms)]
        row.append(count(timing.inputs_per_second))
        if memory:
            row.append("-" if timing.peak_bytes is None else size_bytes(timing.peak_bytes))
        table.add_row(text_of(label), model, *row, speedup)

    for entry in entries:
        runtime, batch = runtime_name(entry.runtime), f"batch {entry.batch_size}"
        if entry.dense is None:
            add(f"{runtime}, {batch}", "pruned", entry.pruned, "")
        else:
            add(runtime, "dense", entry.dense, "")
            add(batch, "pruned", entry.pruned, ratio(entry.speedup))
    return table


def render_optimizer_bench(bench: Mapping[str, Any], console: Console) -> None:
    """Print what `bench_optimizer` measured."""
    console.print()
    console.print(_headline(bench))
    console.print()
    console.print(facts(_summary(bench)))
    console.print()
    columns = ("step", "p90", "x AdamW", "state", "moved", "of a copy", "training step", "x AdamW")
    table = titled_table("optimizer", columns, right=range(1, 9))
    for arm in bench["arms"]:
        table.add_row(
            text_of(arm["name"]),
            f"{arm['step_ms']:.2f} ms",
            f"{arm['step_ms_p90']:.2f} ms",
            f"{arm['ratio']:.2f}",
            f"{arm['state_bytes']:.1f} B",
            "-" if arm["moved_bytes"] is None else f"{arm['moved_bytes']:.0f} B",
            percent(arm["bandwidth_share"], 0),
            f"{arm['training_step_ms']:.1f} ms",
            f"{arm['training_ratio']:.3f}",
        )
    console.print(table)
    console.print(
        Text(
            "state and moved are bytes per parameter; moved counts the passes, not corrections",
            style="dim",
        )
    )


def _headline(bench: Mapping[str, Any]) -> Text:
    ramda = bench["arms"][1]
    line = Text(f"a step of RAMDA costs {ramda['ratio']:.2f} times one of AdamW", style="bold")
    more = f"; a training step {ramda['training_ratio']:.3f} times, at {bench['batch']} inputs"
    return line.append(more, style="not bold")


def _summary(bench: Mapping[str, Any]) -> list[tuple[str, Text]]:
    speed = bench["copy_bytes_per_second"] / 1e9
    return [
        (
            "model",
            text_of(
                f"{bench['model']}, {count(bench['params'])} parameters in"
                f" {bench['tensors']} tensors, {percent(bench['penalized'])} of them in"
                f" {count(bench['groups'])} groups"
            ),
        ),
        (
            "device",
            text_of(
                f"{bench['device']}, {bench['threads']} threads, torch {bench['torch']};"
                f" a copy moves {speed:.0f} GB/s"
            ),
        ),
        (
            "measured",
            text_of(
                f"{bench['rounds']} rounds after {bench['warm_up']}, all optimizers in each,"
                f" {bench['date']};"
                f" {percent(bench['zero_groups'])} of the groups were zero at the end"
            ),
        ),
    ]
