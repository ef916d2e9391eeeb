"""The dependency structure as a picture: SVG, alone or in a page.

A row is a module with parameters, in the model's order. A group is a vertical line from the first
to the last module that it touches: a filled dot makes its channels or goes along with them, a ring
reads them. Lines of groups that do not meet share a column. Hovering a line tells what it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree as ET

from ramda_cli.report.formatting import count, percent, share_of
from ramda_cli.report.inspection import CandidateEntry, Inspection
from ramda_cli.report.palette import COLORS, DARK, LIGHT

_ROW: Final = 18
_LANE: Final = 13
_CHARACTER: Final = 7
_MARGIN: Final = 24
_HEADER: Final = 86
_STYLE: Final = (
    f"""
svg {{ --paper: #ffffff; --ink: #1f2328; --quiet: #8b949e; --rule: #eaeef2; {LIGHT}
  background: var(--paper); color: var(--ink);
  font: 12px ui-monospace, Menlo, Consolas, monospace; }}
@media (prefers-color-scheme: dark) {{ svg {{ --paper: #0d1117; --ink: #e6edf3; --quiet: #7d8590;
  --rule: #21262d; {DARK} }} }}
"""
    + """
text { fill: var(--ink); } .quiet { fill: var(--quiet); }
.title { font-size: 17px; font-weight: 600; } .rule { stroke: var(--rule); }
.group line { stroke-width: 2.5; } .group circle { stroke-width: 2; }
.group:hover line { stroke-width: 6; } .reads { fill: var(--paper); }
"""
    + "\n".join(
        f".c{i} line, .c{i} circle {{ stroke: var(--c{i}); }} .c{i} .makes {{ fill: var(--c{i}); }}"
        for i in range(COLORS)
    )
)


@dataclass(frozen=True)
class _Line:
    """A group as it is drawn: the rows it touches, and those that read it."""

    group: CandidateEntry
    rows: tuple[int, ...]
    reading: frozenset[int]


def draw_svg(found: Inspection) -> str:
    """Return the picture as an SVG document."""
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(_svg(found), encoding="unicode")


def draw_html(found: Inspection) -> str:
    """Return the picture in a page that needs nothing else."""
    page = ET.Element("html", lang="en")
    head = ET.SubElement(page, "head")
    ET.SubElement(head, "meta", charset="utf-8")
    ET.SubElement(head, "title").text = f"{found.model.name}: what can be removed"
    style = (
        "body { margin: 0 } @media (prefers-color-scheme: dark) { body { background: #0d1117 } }"
    )
    ET.SubElement(head, "style").text = style
    ET.SubElement(page, "body").append(_svg(found))
    return "<!doctype html>\n" + ET.tostring(page, encoding="unicode", method="html")


def _svg(found: Inspection) -> ET.Element:
    rows = {name: row for row, name in enumerate(found.modules)}
    lines = [_line(group, rows) for group in found.groups]
    lanes = _pack([line.rows for line in lines])
    left = _MARGIN + _CHARACTER * max([len(name) for name in rows] or [0]) + 20
    right = left + _LANE * (max(lanes, default=-1) + 1) + 16
    notes = _notes(found)
    longest = max([len(text) for text in notes.values()] or [0])
    summary = _summary(found)
    headline = _MARGIN + 8 * max(len(summary), len(found.model.name) * 3 // 2)
    width = max(right + _CHARACTER * longest, headline) + _MARGIN
    height = _HEADER + _ROW * len(rows) + _MARGIN
    svg = ET.Element(
        "svg", xmlns="http://www.w3.org/2000/svg", width=str(width), height=str(height),
        viewBox=f"0 0 {width} {height}", role="img",
    )  # fmt: skip
    ET.SubElement(svg, "title").text = f"Dependency structure of {found.model.name}"
    ET.SubElement(svg, "style").text = _STYLE
    _text(svg, _MARGIN, 32, found.model.name, "title")
    _text(svg, _MARGIN, 54, summary)
    legend = "a line is a group of channels: dots make them, rings read them"
    _text(svg, _MARGIN, 72, legend, "quiet")
    for name, row in rows.items():
        y = _y(row)
        _mark(svg, "line", "rule", x1=_MARGIN, x2=width - _MARGIN, y1=y + 9, y2=y + 9)
        _text(svg, _MARGIN, y + 4, name, "" if name in notes else "quiet")
        if name in notes:
            _text(svg, right, y + 4, notes[name], "" if _is_free(found, name) else "quiet")
    for number, (line, lane) in enumerate(zip(lines, lanes, strict=True)):
        _draw(svg, line, left + _LANE * lane, number % COLORS, found)
    return svg


def _line(group: CandidateEntry, rows: dict[str, int]) -> _Line:
    touched = {rows[_module(name)] for name in group.coupled if _module(name) in rows}
    reading = {rows[_module(name)] for name in group.penalized if _module(name) in rows}
    return _Line(group, tuple(sorted(touched)), frozenset(reading))


def _pack(spans: Sequence[Sequence[int]]) -> list[int]:
    """Return a column for each line, so that no two in a column share a row."""
    ends: list[int] = []
    columns = [0] * len(spans)
    order = sorted(range(len(spans)), key=lambda i: (spans[i][0] if spans[i] else 0, i))
    for index in order:
        span = spans[index] or (0,)
        free = next((lane for lane, end in enumerate(ends) if end < span[0]), len(ends))
        if free == len(ends):
            ends.append(0)
        ends[free] = span[-1]
        columns[index] = free
    return columns


def _draw(svg: ET.Element, line: _Line, x: int, color: int, found: Inspection) -> None:
    if not line.rows:
        return
    group = ET.SubElement(svg, "g", {"class": f"group c{color}"})
    ET.SubElement(group, "title").text = f"{line.group.name}: {_at_stake(line.group, found)}"
    _mark(group, "line", "", x1=x, x2=x, y1=_y(line.rows[0]), y2=_y(line.rows[-1]))
    for row in line.rows:
        kind = "reads" if row in line.reading else "makes"
        _mark(group, "circle", kind, cx=x, cy=_y(row), r=4)


def _notes(found: Inspection) -> dict[str, str]:
    """Return what is written beside a module: what may go, and otherwise why nothing may."""
    notes: dict[str, str] = {}
    for group in found.groups:
        name = group.name.partition("#")[0]
        text = _at_stake(group, found)
        notes[name] = f"{notes[name]}; {text}" if name in notes else text
    for fixed in found.fixed:
        name = fixed.name.partition("[")[0]
        name = name if name in found.modules else _module(name)
        notes.setdefault(name, f"fixed: {fixed.reason.partition(' at ')[0]}")
    return notes


def _is_free(found: Inspection, name: str) -> bool:
    return any(group.name.partition("#")[0] == name for group in found.groups)


def _at_stake(group: CandidateEntry, found: Inspection) -> str:
    unit = "channels" if group.unit == "channel" else f"units, each a {group.unit}"
    macs = percent(share_of(group.macs, found.size.macs))
    return f"{group.channels} {unit}, {macs} of the MACs"


def _summary(found: Inspection) -> str:
    removable = found.removable
    return (
        f"{count(removable.channels)} channels in {len(found.groups)} groups can be removed: "
        f"{percent(removable.macs_share)} of the MACs, "
        f"{percent(removable.params_share)} of the parameters"
    )


def _module(parameter: str) -> str:
    return parameter.rpartition(".")[0] or parameter


def _y(row: int) -> int:
    return _HEADER + _ROW * row + _ROW // 2


def _text(parent: ET.Element, x: int, y: int, text: str, kind: str = "") -> None:
    _mark(parent, "text", kind, x=x, y=y).text = text


def _mark(parent: ET.Element, tag: str, kind: str, **attributes: int) -> ET.Element:
    values = {name: str(value) for name, value in attributes.items()}
    return ET.SubElement(parent, tag, {"class": kind, **values} if kind else values)
