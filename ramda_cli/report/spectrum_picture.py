"""Singular values before and after, a small drawing for each weight that could lose ranks.

Each drawing has the singular values from the largest to the smallest as shares of the largest of
the two. The area is what the model had before, the line what it has now, which ends at its rank.
"""

from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree as ET

from ramda_cli.report.document import MatrixEntry

_WIDTH: Final = 100.0
_HEIGHT: Final = 44.0


def draw_spectrum(entry: MatrixEntry) -> str:
    """Return the <svg> element of one weight; values that are no finite numbers count as zero."""
    svg = ET.Element(
        "svg", viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}", preserveAspectRatio="none", role="img"
    )
    svg.set("aria-label", "singular values before and after")
    top = max([*entry.before, *entry.after, 0.0])
    area = _points(entry.before, top)
    if area:
        corners = [(0.0, _HEIGHT), *area, (_WIDTH, _HEIGHT)]
        ET.SubElement(svg, "polygon", {"class": "was"}, points=_text(corners))
    line = _points(entry.after, top)
    if line and entry.factorized:
        end = _WIDTH * (entry.rank - 0.5) / max(1, entry.full_rank)
        line = [point for point in line if point[0] <= end]
        line.append((max(0.0, min(_WIDTH, end)), _HEIGHT))
    if line:
        ET.SubElement(svg, "polyline", {"class": "is"}, points=_text(line))
    return ET.tostring(svg, encoding="unicode")


def _points(values: Sequence[float], top: float) -> list[tuple[float, float]]:
    if not values or not top > 0:
        return []
    step = _WIDTH / max(1, len(values) - 1)
    shares = (min(1.0, max(0.0, value / top)) for value in values)
    return [(step * i, _HEIGHT - share * (_HEIGHT - 2)) for i, share in enumerate(shares)]


def _text(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
