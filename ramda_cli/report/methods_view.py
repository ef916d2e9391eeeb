"""Methods side by side: a table of means over seeds, and the paper's figures."""

import math

from markupsafe import Markup
from rich.console import Console

from ramda_cli.report.curves import Series, draw_lines
from ramda_cli.report.document import EpochEntry
from ramda_cli.report.formatting import counted, measured, percent, text_of
from ramda_cli.report.html import page_environment
from ramda_cli.report.markdown import escaped, table
from ramda_cli.report.methods import (
    Measured,
    MethodComparison,
    last_tenth,
    mean_curve,
    over_runs,
    structure_of,
)
from ramda_cli.report.plain import parse_comparison
from ramda_cli.report.tables import titled_table


def render_comparison(document: object, console: Console) -> None:
    """Print the table of a comparison."""
    comparison = parse_comparison(document)
    console.print(text_of(f"{comparison.name}: {comparison.model}", style="bold"))
    console.print(text_of(_said(comparison)))
    header = _header(comparison)
    shown = titled_table(header[0], header[1:], right=range(1, len(header)))
    for row in _rows(comparison):
        shown.add_row(*map(text_of, row))
    console.print(shown)


def comparison_markdown(document: object) -> str:
    """Return the table of a comparison as markdown."""
    comparison = parse_comparison(document)
    rows = [tuple(map(escaped, row)) for row in _rows(comparison)]
    title = f"### {escaped(comparison.name)}: {escaped(comparison.model)}"
    shown = table(_header(comparison), rows, right=1)
    return f"{title}\n\n{escaped(_said(comparison))}\n\n{shown}\n"


def comparison_html(document: object) -> str:
    """Return figures and table as a page that needs nothing else."""
    comparison = parse_comparison(document)
    return (
        page_environment()
        .get_template("methods.html")
        .render(
            name=comparison.name,
            model=comparison.model,
            said=_said(comparison),
            header=_header(comparison),
            rows=_rows(comparison),
            figures=[Markup(figure) for figure in _figures(comparison)],
        )
    )


def _said(comparison: MethodComparison) -> str:
    seeds = sorted({run.seed for run in comparison.runs})
    removals = sum(run.unchanged for run in comparison.runs)
    long = f"{counted(comparison.epochs, 'epoch')}, {counted(len(seeds), 'seed')}"
    return (
        f"{comparison.data}; {long}, on {comparison.device}. Means, with standard deviations over"
        f" seeds. Each run was removed and proven; {removals} of {len(comparison.runs)} kept the"
        " metric to the last digit."
    )


def _header(comparison: MethodComparison) -> tuple[str, ...]:
    metric = comparison.runs[0].metric if comparison.runs else "metric"
    return (
        "method", metric, comparison.structure, "removed parameters", "deviation of the structure",
        "seconds per epoch",
    )  # fmt: skip


def _rows(comparison: MethodComparison) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for label in comparison.labels:
        runs = comparison.of(label)
        share = runs[0].is_share
        rows.append(
            (
                label,
                _with_deviation(over_runs(runs, lambda run: run.value), is_share=share),
                _with_deviation(over_runs(runs, lambda run: run.structure)),
                _with_deviation(over_runs(runs, lambda run: run.removed)),
                _small(over_runs(runs, lambda run: run.structure_deviation)),
                _seconds(over_runs(runs, lambda run: run.seconds_per_epoch)),
            )
        )
    return rows


def _with_deviation(found: Measured | None, *, is_share: bool = True) -> str:
    if found is None:
        return "-"
    shown = measured(found.mean, is_share=is_share)
    if found.deviation is None:
        return shown
    if is_share:
        return f"{100 * found.mean:.2f} ± {percent(found.deviation, 2)}"
    if 0 < found.deviation < abs(found.mean) < 10_000:
        # Two digits of the deviation, and the mean no finer than that.
        digits = max(0, 1 - math.floor(math.log10(found.deviation)))
        return f"{found.mean:.{digits}f} ± {found.deviation:.{digits}f}"
    return f"{shown} ± {measured(found.deviation, is_share=False)}"


def _small(found: Measured | None) -> str:
    return "-" if found is None else percent(found.mean, 3)


def _seconds(found: Measured | None) -> str:
    return "-" if found is None else f"{found.mean:.2f}"


def _figures(comparison: MethodComparison) -> list[str]:
    """Draw what the paper draws."""
    if not comparison.runs:
        return []
    first = comparison.runs[0]
    last = last_tenth([comparison.epochs])

    def trained(entry: EpochEntry) -> float | None:
        # That of random weights would leave the rest of the curve flat.
        return entry.metric if entry.epoch > 0 else None

    def late(entry: EpochEntry) -> float | None:
        return structure_of(entry) if entry.epoch in last else None

    panels = [
        (first.metric, trained, first.is_share),
        (comparison.structure, structure_of, True),
        (f"{comparison.structure} over the last epochs", late, True),
        ("change of the zero set", lambda entry: entry.zero_set_change, True),
    ]
    drawn = []
    for title, value, in_percent in panels:
        series = [
            Series(label, mean_curve(comparison.of(label), value)) for label in comparison.labels
        ]
        if any(len(each.points) > 1 for each in series):
            drawn.append(draw_lines(series, title=title, in_percent=in_percent))
    return drawn
