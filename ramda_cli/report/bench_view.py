"""The benchmark of the optimizer, in a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from ramda_cli.report.formatting import count, percent, text_of
from ramda_cli.report.tables import facts, titled_table


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
