"""The curves of a training run, as SVG that takes its colours from the page around it."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Final

from ramda_cli.report.document import EpochEntry

# Colours that stand for the page's own: matplotlib knows no CSS variables.
_COLORS: Final = {
    "#010101": "var(--ink)",
    "#020202": "var(--quiet)",
    "#030303": "var(--rule)",
    "#040404": "var(--accent)",
    "#050505": "var(--second)",
    "#060606": "var(--third)",
    "#070707": "var(--fourth)",
    "#080808": "var(--fifth)",
    "#090909": "var(--sixth)",
}
_INK, _QUIET, _RULE, *_LINES = _COLORS
_ACCENT, _SECOND, _THIRD, *_ = _LINES

_MOST_MARKERS: Final = 40

_Dashes = str | tuple[int, tuple[float, ...]]
_SOLID: Final = ("-",)
# Of one more kind than there are colours, so that more lines than these differ too; and what lies
# below others shows through them.
_DASHED: Final[Sequence[_Dashes]] = (
    "-", *((0, on_off) for on_off in ((5, 2), (2, 1.5), (6, 2, 1.5, 2), (3, 3), (1, 1.5), (9, 3))),
)  # fmt: skip

_Value = Callable[[EpochEntry], float | None]


def draw_curves(
    history: Sequence[EpochEntry], metric: str, *, removal: int | None = None
) -> list[str]:
    """Return an SVG element for each quantity of which at least two values were measured.

    Args:
        history: of the training.
        metric: its name.
        removal: an epoch to mark by a dotted line, where it is one of the history.
    """
    if removal not in {entry.epoch for entry in history}:
        removal = None
    panels: list[tuple[str, list[tuple[str, _Value]], bool]] = [
        ("loss", [("", lambda e: e.loss)], False),
        (metric, [("", lambda e: e.metric)], False),
        (
            "left and zero",
            [
                ("MACs left", lambda e: e.macs_share),
                ("weighted group sparsity", lambda e: e.group_sparsity),
                ("low-rank level", lambda e: e.low_rank_level),
            ],
            False,
        ),
        ("change of the zero set", [("", lambda e: e.zero_set_change)], False),
        ("certificate", [("", lambda e: e.certificate)], True),
    ]
    drawn = []
    for title, lines, log in panels:
        curves = [(name, _points(history, value, log=log)) for name, value in lines]
        if max(len(points) for _, points in curves) > 1:
            drawn.append(_draw(title, curves, log=log, removal=removal))
    return drawn


@dataclass(frozen=True)
class Series:
    """Points of one kind."""

    name: str
    points: Sequence[tuple[float, float]]


def draw_scatter(
    series: Sequence[Series],
    line: Sequence[tuple[float, float]],
    *,
    x: str,
    y: str,
    in_percent: bool = True,
) -> str:
    """Return an SVG element with points of up to three kinds and a line through some of them.

    Args:
        series: the points; their first coordinate is a share.
        line: through some of them.
        x: name of the first axis.
        y: of the second.
        in_percent: whether y is a share too.
    """
    from matplotlib.ticker import PercentFormatter

    with _figure(y, (6.4, 3.6)) as (figure, axes):
        if line:
            axes.plot(*zip(*line, strict=True), color=_QUIET, linewidth=1, label="Pareto front")
        for each, color in zip(series, (_ACCENT, _SECOND, _THIRD), strict=False):
            axes.scatter(*zip(*each.points, strict=True), color=color, s=26, label=each.name)
        _style(axes, y)
        axes.set_xlabel(x, color=_QUIET)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        if in_percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.legend(frameon=False, labelcolor=_INK)
        return _written(figure)


def draw_lines(series: Sequence[Series], *, title: str, in_percent: bool) -> str:
    """Return an SVG element with a line for each method over epochs."""
    curves = [(each.name, each.points) for each in series]
    return _draw(title, curves, dashes=_DASHED, inches=(6.4, 3.2), in_percent=in_percent)


def _points(
    history: Sequence[EpochEntry], value: _Value, *, log: bool
) -> list[tuple[float, float]]:
    found = [(entry.epoch, value(entry)) for entry in history]
    return [(epoch, y) for epoch, y in found if y is not None and (y > 0 or not log)]


def _draw(
    title: str,
    curves: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    *,
    dashes: Sequence[_Dashes] = _SOLID,
    log: bool = False,
    removal: int | None = None,
    inches: tuple[float, float] = (4.8, 2.6),
    in_percent: bool = False,
) -> str:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    with _figure(title, inches) as (figure, axes):
        looks = zip(curves, cycle(_LINES), cycle(dashes), strict=False)
        for (name, points), color, style in looks:
            if points:
                marker = "." if len(points) <= _MOST_MARKERS else ""
                axes.plot(
                    *zip(*points, strict=True),
                    color=color, label=name, marker=marker, linestyle=style,
                )  # fmt: skip
        if removal is not None:
            axes.axvline(removal, color=_QUIET, linewidth=1, linestyle=":")
        _style(axes, title)
        axes.set_xlabel("epoch", color=_QUIET)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if log:
            axes.set_yscale("log")
            # The usual labels are formulas, and formulas are off.
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}")
            axes.yaxis.set_minor_formatter("")
        if in_percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        if any(name for name, _ in curves):
            axes.legend(frameon=False, labelcolor=_INK)
        return _written(figure)


@contextmanager
def _figure(salt: str, inches: tuple[float, float]) -> Iterator[tuple[Any, Any]]:
    """Yield a figure and its axes."""
    # Slow to import, and only needed here.
    import matplotlib
    from matplotlib.figure import Figure

    # Text stays text, the same every time, and a metric's name is no formula. The salt keeps the
    # ids of several pictures in one page apart.
    with matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": salt,
            "text.parse_math": False,
            "font.family": "sans-serif",
            "font.size": 9,
        }
    ):
        figure = Figure(figsize=inches, layout="constrained")
        figure.patch.set_alpha(0)
        yield figure, figure.add_subplot()


def _style(axes: Any, title: str) -> None:
    axes.set_title(title, color=_INK, loc="left", fontsize=10)
    axes.patch.set_alpha(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(_RULE)
    axes.tick_params(colors=_QUIET, which="both")
    axes.grid(axis="y", color=_RULE, linewidth=0.6)


def _written(figure: Any) -> str:
    written = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(written, format="svg", metadata=nothing)
    return _recolored(written.getvalue())


def _recolored(document: str) -> str:
    """Return the <svg> element of a document, with the page's colours."""
    svg = document[document.index("<svg") :]
    for color, variable in _COLORS.items():
        svg = svg.replace(color, variable)
    return svg
