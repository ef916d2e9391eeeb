"""The picture of the dependency structure: what it says, where, and that names are only text."""

from dataclasses import replace
from xml.etree import ElementTree as ET

from ramda_cli.report.document import FixedEntry
from ramda_cli.report.inspection import CandidateEntry, Inspection
from ramda_cli.report.structure_picture import draw_html, draw_svg
from tests.report.sample import INSPECTION

SVG = "{http://www.w3.org/2000/svg}"


def candidate(name: str, *coupled: str, reads: tuple[str, ...]) -> CandidateEntry:
    return CandidateEntry(
        name=name, channels=8, params=10, macs=100, unit="channel",
        penalized=tuple(f"{one}.weight" for one in reads),
        coupled=tuple(f"{one}.weight" for one in (*coupled, *reads)),
    )  # fmt: skip


def inspection(*groups: CandidateEntry, modules: tuple[str, ...]) -> Inspection:
    return replace(INSPECTION, groups=groups, modules=modules, fixed=())


def drawn(found: Inspection) -> ET.Element:
    return ET.fromstring(draw_svg(found))


def columns(svg: ET.Element) -> list[str]:
    return [group.findall(f"{SVG}line")[0].get("x1", "") for group in svg.findall(f"{SVG}g")]


def test_a_line_has_dots_where_channels_are_made_and_rings_where_they_are_read() -> None:
    group = candidate("a", "a", "norm", reads=("b",))
    svg = drawn(inspection(group, modules=("a", "norm", "other", "b")))
    (line,) = svg.findall(f"{SVG}g")
    circles = line.findall(f"{SVG}circle")
    assert [circle.get("class") for circle in circles] == ["makes", "makes", "reads"]
    heights = [int(circle.get("cy", "")) for circle in circles]
    assert [(height - heights[0]) // 18 for height in heights] == [0, 1, 3]
    title = line.find(f"{SVG}title")
    assert title is not None
    assert title.text is not None
    assert title.text.startswith("a: 8 channels, ")


def test_lines_that_meet_lie_side_by_side_and_others_share_a_column() -> None:
    modules = ("a", "b", "c", "d")
    first = candidate("a", "a", reads=("c",))
    inside = candidate("b", "b", reads=("c",))
    after = candidate("d", "d", reads=("d",))
    x = columns(drawn(inspection(first, inside, after, modules=modules)))
    assert x[0] != x[1]
    assert x[2] == x[0]


def test_reasons_stand_beside_what_is_fixed() -> None:
    fixed = FixedEntry(name="a.weight[dim 1]", reason="the model's input", operator="", channels=3)
    found = replace(inspection(modules=("a",)), fixed=(fixed,))
    texts = [text.text for text in drawn(found).findall(f"{SVG}text")]
    assert "fixed: the model's input" in texts


def test_names_are_text_whatever_they_hold() -> None:
    bad = "<script>alert('&')</script>"
    found = inspection(candidate(bad, bad, reads=(bad,)), modules=(bad,))
    svg = drawn(found)
    assert bad in [text.text for text in svg.findall(f"{SVG}text")]
    assert "<script" not in draw_html(found)
    assert "&lt;script" in draw_html(found)


def test_the_page_is_whole_and_asks_for_nothing() -> None:
    page = draw_html(INSPECTION)
    assert page.startswith("<!doctype html>")
    assert "prefers-color-scheme: dark" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "src=" not in page


def test_a_model_without_groups_can_be_drawn() -> None:
    assert drawn(inspection(modules=())).findall(f"{SVG}g") == []
