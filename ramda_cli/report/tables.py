"""The tables of the terminal report."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from rich import box
from rich.console import JustifyMethod, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ramda_cli.report.document import (
    Accuracy,
    FileEntry,
    FixedEntry,
    GroupEntry,
    Latency,
    MatrixEntry,
    ProofEntry,
    Sizes,
)
from ramda_cli.report.formatting import (
    count,
    difference,
    percent,
    share_of,
    size_bytes,
    text_of,
)
from ramda_cli.report.ranks import bars, entries_left, most_lost
from ramda_cli.report.rows import accuracy_rows, size_rows
from ramda_cli.report.speed import latency_rows, speed_sentence, threads

_MAX_GROUPS: Final = 40
_MAX_NAMES: Final = 3
_BAR_WIDTH: Final = 20


def facts(rows: Iterable[tuple[str, RenderableType]]) -> Table:
    """Return label and value pairs in two columns."""
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in rows:
        table.add_row(label, value)
    return table


def sizes_table(size: Sizes) -> Table:
    """Return the sizes before and after the removal."""
    table = titled_table("size", ("dense", "pruned", "left"), right=(1, 2, 3))
    for row in size_rows(size):
        table.add_row(row.label, row.first, row.second, row.left)
    return table


def accuracy_table(accuracy: Accuracy) -> Table:
    """Return the metric along the run; what was not measured has no row."""
    table = titled_table(text_of(accuracy.metric).plain, ("",), right=(1,))
    for label, value in accuracy_rows(accuracy):
        table.add_row(label, value)
    return table


def latency_table(latency: Latency) -> Table:
    """Return the latency of both models, a row for each runtime and batch size."""
    table = titled_table("latency", ("dense", "pruned", "speed-up"), right=(1, 2, 3))
    for row in latency_rows(latency):
        table.add_row(*map(text_of, row))
    where = f"{latency.device}, {threads(latency.threads)}"
    table.caption = text_of(f"{speed_sentence(latency)}; {where}")
    return table


def proof_table(proof: ProofEntry, *, narrow: bool = False) -> Table:
    """Return every comparison with its largest difference and its tolerance.

    A narrow table has no room for the inputs and the relative difference.
    """
    numbers = ("max abs", "tolerance") if narrow else ("inputs", "max abs", "relative", "tolerance")
    right = range(2, 2 + len(numbers))
    table = titled_table("proof", ("dtype", *numbers, ""), right=right)
    for check in proof.checks:
        cells = {
            "inputs": count(check.inputs),
            "max abs": difference(check.max_abs_difference),
            "relative": difference(check.relative_difference),
            "tolerance": difference(check.tolerance),
        }
        table.add_row(
            text_of(check.name),
            text_of(check.dtype),
            *(cells[name] for name in numbers),
            verdict(check.passed),
        )
    return table


def groups_table(groups: Sequence[GroupEntry]) -> Table:
    """Return kept channels per group; of many groups those that lost the largest share."""
    table = titled_table("channels kept", ("", "kept", "of", ""), right=(2, 3, 4))
    for group in _most_removed(groups):
        share = share_of(group.kept, group.channels)
        table.add_row(
            text_of(group.name),
            ProgressBar(
                total=max(group.channels, 1),
                completed=group.kept,
                width=_BAR_WIDTH,
                complete_style="cyan",
                finished_style="green",
            ),
            count(group.kept),
            count(group.channels),
            percent(share, digits=0),
        )
    hidden = len(groups) - table.row_count
    if hidden:
        table.caption = f"and {hidden} groups that lost less; --format json lists all"
    return table


def matrices_table(matrices: Sequence[MatrixEntry]) -> Table:
    """Return ranks, with the singular values now; of many weights those that lost most."""
    columns = ("size", "values", "rank", "of", "left")
    table = titled_table("ranks kept", columns, right=(3, 4, 5))
    table.columns[0].overflow = "ellipsis"
    table.columns[0].no_wrap = True
    for entry in most_lost(matrices, _MAX_GROUPS):
        table.add_row(
            text_of(entry.name.removesuffix(".weight")),
            f"{entry.rows} x {entry.cols}",
            Text(bars(entry.after), style="cyan", no_wrap=True),
            count(entry.rank if entry.factorized else entry.full_rank),
            count(entry.full_rank),
            percent(entries_left(entry), digits=0) if entry.factorized else Text("whole", "dim"),
        )
    hidden = len(matrices) - table.row_count
    if hidden:
        table.caption = f"and {hidden} weights that lost less; --format json lists all"
    return table


def fixed_table(fixed: Sequence[FixedEntry]) -> Table:
    """Return the fixed channel sets, those with the same reason in one row."""
    table = titled_table("fixed", ("sets", "channels", "where"), right=(1, 2))
    ordered = sorted(fixed, key=lambda entry: (entry.reason, entry.operator))
    for (reason, operator), members in groupby(ordered, lambda one: (one.reason, one.operator)):
        entries = list(members)
        why = text_of(reason)
        if operator and operator not in reason:
            why.append_text(text_of(f" ({operator})", style="dim"))
        channels = count(sum(entry.channels for entry in entries))
        table.add_row(why, str(len(entries)), channels, _names([one.name for one in entries]))
    return table


def files_table(files: Sequence[FileEntry]) -> Table:
    """Return the written files."""
    table = titled_table("files", ("size", "sha256"), right=(1,))
    for file in files:
        digest = text_of((file.sha256 or "-")[:16], style="dim")
        table.add_row(text_of(file.name), size_bytes(file.bytes), digest)
    return table


def titled_table(title: str, columns: Sequence[str], *, right: Sequence[int] = ()) -> Table:
    """Return an empty table whose first column carries the title.

    Args:
        title: stands over the first column.
        columns: the headings after it.
        right: indices of right-aligned columns; the title's is 0.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", caption_justify="left")
    table.add_column(Text(title, style="not dim bold"), overflow="fold")
    for index, column in enumerate(columns, start=1):
        justify: JustifyMethod = "right" if index in right else "left"
        table.add_column(column, justify=justify, overflow="fold")
    return table


def verdict(passed: bool) -> Text:
    """Return the outcome of a check."""
    return Text("passed", style="green") if passed else Text("FAILED", style="bold red")


def _most_removed(groups: Sequence[GroupEntry]) -> list[GroupEntry]:
    ranked = sorted(range(len(groups)), key=lambda i: share_of(groups[i].kept, groups[i].channels))
    return [groups[index] for index in sorted(ranked[:_MAX_GROUPS])]


def _names(names: Sequence[str]) -> Text:
    shown = ", ".join(names[:_MAX_NAMES])
    hidden = len(names) - _MAX_NAMES
    return text_of(f"{shown} and {hidden} more" if hidden > 0 else shown)
