"""How wide each layer of a network is before and after: an SVG for the page of the report.

A row is a block of the network, a bar one of its layers, in the model's order. Its outline is the
width before, on a square-root scale, and its filling the share that is left. Lengths are shares of
the page's width and heights are pixels, so that text stays as large on a small screen. Layers whose
channels live and die together have one colour, and pointing at one shades the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final
from xml.etree import ElementTree as ET

from ramda_cli.report.document import LayerEntry
from ramda_cli.report.formatting import count, share_of, text_of
from ramda_cli.report.palette import COLORS

_LABELS: Final = 27.0
_MOST_BARS: Final = 8
_CROWDED: Final = 5
_GAP: Final = 0.88
_ROW: Final = 27
_BAR: Final = 10
_LONG: Final = 28
_SHORT: Final = 15
_MOST_NAMES: Final = 6


@dataclass(frozen=True)
class _Row:
    """Layers beside each other, and the path that they have in common."""

    label: str
    layers: tuple[LayerEntry, ...]


def draw_widths(layers: Sequence[LayerEntry]) -> str:
    """Return the <svg> element."""
    rows = [*_rows(layers)]
    makers = _shared(layers)
    slots = max((len(row.layers) for row in rows), default=1)
    widest = max([layer.width for layer in layers] + [1])
    svg = ET.Element(
        "svg", {"class": f"widths{' crowded' if slots > _CROWDED else ''}", "role": "img"},
        width="100%", height=str(_ROW * len(rows)),
    )  # fmt: skip
    svg.set("aria-label", "the width of each layer before and after the removal")
    ET.SubElement(svg, "style").text = "".join(
        f"svg:has(.m{number}:hover) .bar:not(.m{number}) {{ opacity: .2; }}"
        for number in range(len(makers))
    )
    numbers = {name: number for number, name in enumerate(makers)}
    for y, row in zip(range(0, _ROW * len(rows), _ROW), rows, strict=True):
        _draw_label(svg, row.label, y)
        for slot, layer in enumerate(row.layers):
            shared = [name for name in layer.groups if name in makers]
            bar = ET.SubElement(svg, "g", {"class": _class(layer, [numbers[n] for n in shared])})
            others = dict.fromkeys(other for name in shared for other in makers[name])
            ET.SubElement(bar, "title").text = _tooltip(layer, [*others])
            step = (100 - _LABELS) / slots
            length = _GAP * step * share_of(max(0, layer.width), widest) ** 0.5
            _draw_bar(bar, layer, _LABELS + step * slot, y, length)
    return ET.tostring(svg, encoding="unicode")


def group_colors(layers: Sequence[LayerEntry]) -> dict[str, int]:
    """Return the number of the colour of every group that more than one layer makes."""
    return {name: _color(number) for number, name in enumerate(_shared(layers))}


def _rows(layers: Sequence[LayerEntry]) -> Iterator[_Row]:
    blocks = [
        (block, tuple(members)) for block, members in groupby(layers, lambda each: _block(each))
    ]
    # Blocks of one layer under one parent, such as the steps of a stem, share a row.
    for (parent, single), run in groupby(
        blocks, lambda each: (each[0].rpartition(".")[0], len(each[1]) == 1)
    ):
        joined = [*run]
        if single and parent and len(joined) > 1:
            joined = [(parent, tuple(layer for _, members in joined for layer in members))]
        for label, members in joined:
            for first in range(0, len(members), _MOST_BARS):
                yield _Row("" if first else label, members[first : first + _MOST_BARS])


def _block(layer: LayerEntry) -> str:
    """Return the path of the block that a layer is in; its own where it is in none.

    That is the path up to the last part that is a number, such as `layer1.0`, or else to the last
    one that ends in a digit, such as `denseblock1.denselayer2`, or else the parent.
    """
    parts = text_of(layer.name).plain.split(".")
    parents = parts[:-1]
    numbered = [i for i, part in enumerate(parents, 1) if part.isdecimal()]
    ended = [i for i, part in enumerate(parents, 1) if part[-1:].isdecimal()]
    return ".".join(parents[: (numbered or ended or [len(parents)])[-1]]) or parts[-1]


def _shared(layers: Sequence[LayerEntry]) -> dict[str, list[str]]:
    """Return the layers of every group that more than one makes, in the model's order."""
    makers: dict[str, list[str]] = {}
    for layer in layers:
        for name in layer.groups:
            makers.setdefault(name, []).append(layer.name)
    return {name: found for name, found in makers.items() if len(found) > 1}


def _color(number: int) -> int:
    # The first colour is that of layers that are coupled with no other.
    return 1 + number % (COLORS - 1)


def _class(layer: LayerEntry, shared: Sequence[int]) -> str:
    if not layer.groups:
        return "bar fixed"
    color = _color(shared[0]) if shared else 0
    return " ".join(("bar", f"k{color}", *(f"m{number}" for number in shared)))


def _tooltip(layer: LayerEntry, coupled: Sequence[str]) -> str:
    left = f"{count(layer.kept)} of {count(layer.width)} left"
    text = f"{layer.name} ({layer.kind}): {left}{'' if layer.groups else ', fixed'}"
    others = [name for name in coupled if name != layer.name]
    if others:
        more = f" and {len(others) - _MOST_NAMES} more" if len(others) > _MOST_NAMES else ""
        text += f"; with {', '.join(others[:_MOST_NAMES])}{more}"
    return text_of(text).plain


def _draw_label(svg: ET.Element, label: str, y: int) -> None:
    for kind, longest in (("long", _LONG), ("short", _SHORT)):
        shown = label if len(label) <= longest else "…" + label[1 - longest :]
        ET.SubElement(svg, "text", {"class": kind}, y=str(y + _BAR)).text = shown


def _draw_bar(bar: ET.Element, layer: LayerEntry, x: float, y: int, length: float) -> None:
    left = length * min(1.0, max(0.0, share_of(layer.kept, layer.width)))
    for kind, shown in (("all", length), ("left", left)):
        ET.SubElement(
            bar, "rect", {"class": kind}, x=f"{x:.2f}%", y=str(y + 1), height=str(_BAR), rx="2",
            width=f"{shown:.2f}%",
        )  # fmt: skip
    text = f"{layer.kept}/{layer.width}" if layer.kept != layer.width else f"{layer.width}"
    ET.SubElement(bar, "text", {"class": "n"}, x=f"{x:.2f}%", y=str(y + _BAR + 11)).text = text
