"""The curves of a training run, as SVG that takes its colours from the page around it."""

import io
from collections.abc import Callable, Sequence
from typing import Any, Final

from ramda_cli.report.document import EpochEntry

# Colours that stand for the page's own: matplotlib knows no CSS variables.
_COLORS: Final = {
    "#010101": "var(--ink)",
    "#020202": "var(--quiet)",
    "#030303": "var(--rule)",
    "#040404": "var(--accent)",
    "#050505": "var(--second)",
}
_INK, _QUIET, _RULE, _ACCENT, _SECOND = _COLORS

_MOST_MARKERS: Final = 40

_Value = Callable[[EpochEntry], float | None]


def draw_curves(history: Sequence[EpochEntry], metric: str) -> list[str]:
    """Return an SVG element for each quantity of which at least two values were measured."""
    panels: list[tuple[str, list[tuple[str, _Value]], bool]] = [
        ("loss", [("", lambda e: e.loss)], False),
        (metric, [("", lambda e: e.metric)], False),
        (
            "left and zero",
            [
                ("MACs left", lambda e: e.macs_share),
                ("weighted group sparsity", lambda e: e.group_sparsity),
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
            drawn.append(_draw(title, curves, log=log))
    return drawn


def _points(history: Sequence[EpochEntry], value: _Value, *, log: bool) -> list[tuple[int, float]]:
    found = [(entry.epoch, value(entry)) for entry in history]
    return [(epoch, y) for epoch, y in found if y is not None and (y > 0 or not log)]


def _draw(title: str, curves: Sequence[tuple[str, list[tuple[int, float]]]], *, log: bool) -> str:
    # Slow to import, and only needed here.
    import matplotlib
    from matplotlib.figure import Figure

    # Text stays text, the same every time, and a metric's name is no formula. The salt keeps the
    # ids of several pictures in one page apart.
    with matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": title,
            "text.parse_math": False,
            "font.family": "sans-serif",
            "font.size": 9,
        }
    ):
        figure = Figure(figsize=(4.8, 2.6), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        for (name, points), color in zip(curves, (_ACCENT, _SECOND), strict=False):
            if points:
                marker = "." if len(points) <= _MOST_MARKERS else ""
                axes.plot(*zip(*points, strict=True), color=color, label=name, marker=marker)
        _style(axes, title, legend=len(curves) > 1, log=log)
        written = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(written, format="svg", metadata=nothing)
    return _recolored(written.getvalue())


def _style(axes: Any, title: str, *, legend: bool, log: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, color=_INK, loc="left", fontsize=10)
    axes.patch.set_alpha(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(_RULE)
    axes.tick_params(colors=_QUIET, which="both")
    axes.grid(axis="y", color=_RULE, linewidth=0.6)
    axes.set_xlabel("epoch", color=_QUIET)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if log:
        axes.set_yscale("log")
        # The usual labels are formulas, and formulas are off.
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}")
        axes.yaxis.set_minor_formatter("")
    if legend:
        axes.legend(frameon=False, labelcolor=_INK)


def _recolored(document: str) -> str:
    """Return the <svg> element of a document, with the page's colours."""
    svg = document[document.index("<svg") :]
    for color, variable in _COLORS.items():
        svg = svg.replace(color, variable)
    return svg
