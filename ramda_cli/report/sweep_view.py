"""A sweep as a table, and as accuracy over MACs with the Pareto front."""

from markupsafe import Markup
from rich.console import Console

from ramda_cli.report.curves import Series, draw_scatter
from ramda_cli.report.formatting import measured, percent, targets_text, text_of
from ramda_cli.report.html import page_environment
from ramda_cli.report.markdown import escaped, table
from ramda_cli.report.plain import parse_sweep
from ramda_cli.report.sweep import Point, Sweep, over_seeds, pareto_front
from ramda_cli.report.tables import titled_table

_HEADER = ("asked", "method", "seed", "MACs", "params", "dense", "pruned", "")
_SEEDS_HEADER = ("asked", "method", "seeds", "MACs", "params", "pruned", "standard error")


def render_sweep(document: object, console: Console) -> None:
    """Print the table of a sweep; the best are those that none beats in accuracy and size."""
    sweep = parse_sweep(document)
    console.print(text_of(sweep.model, style="bold"))
    shown = titled_table(_HEADER[0], _HEADER[1:], right=(3, 4, 5, 6))
    for row in _rows(sweep):
        shown.add_row(*map(text_of, row))
    console.print(shown)
    means = _seed_rows(sweep)
    if means:
        shown = titled_table(_SEEDS_HEADER[0], _SEEDS_HEADER[1:], right=(2, 3, 4, 5, 6))
        for row in means:
            shown.add_row(*map(text_of, row))
        console.print(shown)


def sweep_markdown(document: object) -> str:
    """Return the table of a sweep as markdown."""
    sweep = parse_sweep(document)
    rows = [tuple(map(escaped, row)) for row in _rows(sweep)]
    means = [tuple(map(escaped, row)) for row in _seed_rows(sweep)]
    over = f"\n{table(_SEEDS_HEADER, means, right=2)}\n" if means else ""
    return f"### {escaped(sweep.model)}\n\n{table(_HEADER, rows, right=3)}\n{over}"


def sweep_html(document: object) -> str:
    """Return the plot and the table as a page that needs nothing else."""
    sweep = parse_sweep(document)
    means = [(_SEEDS_HEADER, rows)] if (rows := _seed_rows(sweep)) else []
    tables = [*means, (_HEADER, _rows(sweep))]
    return (
        page_environment()
        .get_template("sweep.html")
        .render(
            model=sweep.model,
            tables=[each for each in tables if each[1]],
            plot=Markup(_plot(sweep)),
        )
    )


def _rows(sweep: Sweep) -> list[tuple[str, ...]]:
    front = {point.directory for point in pareto_front(sweep.points)}
    return [
        (
            targets_text(point.asked),
            point.method,
            str(point.seed),
            percent(point.macs_share),
            percent(point.params_share),
            measured(point.dense, is_share=point.is_share),
            measured(point.pruned, is_share=point.is_share),
            ", ".join(_remarks(point, on_front=point.directory in front)),
        )
        for point in sweep.points
    ]


def _seed_rows(sweep: Sweep) -> list[tuple[str, ...]]:
    return [
        (
            targets_text(each.asked),
            each.method,
            str(each.runs),
            percent(each.macs_share),
            percent(each.params_share),
            measured(each.pruned, is_share=each.is_share),
            measured(each.standard_error, is_share=each.is_share),
        )
        for each in over_seeds(sweep.points)
    ]


def _remarks(point: Point, *, on_front: bool) -> list[str]:
    said = ["best"] if on_front else []
    if not point.met:
        said.append("target not met")
    if not point.unchanged:
        said.append("differs from before the removal")
    return said


def _plot(sweep: Sweep) -> str:
    methods = dict.fromkeys(point.method for point in sweep.points)
    series = [
        Series(name, [(p.macs_share, p.pruned) for p in sweep.points if p.method == name])
        for name in methods
    ]
    front = [(point.macs_share, point.pruned) for point in pareto_front(sweep.points)]
    metric = text_of(sweep.points[0].metric).plain if sweep.points else ""
    shares = all(point.is_share for point in sweep.points)
    return draw_scatter(series, front, x="MACs left", y=metric, in_percent=shares)
