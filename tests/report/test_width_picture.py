"""The picture of widths: every layer once, to scale, in rows that a reader knows by name."""

from xml.etree import ElementTree as ET

import pytest

from ramda_cli.report.document import LayerEntry
from ramda_cli.report.width_picture import draw_widths, group_colors


def layer(name: str, width: int = 16, kept: int | None = None, *groups: str) -> LayerEntry:
    return LayerEntry(
        name=name, kind="Conv2d", width=width, kept=width if kept is None else kept, groups=groups
    )


def drawn(*layers: LayerEntry) -> ET.Element:
    return ET.fromstring(draw_widths(layers))


def bars(svg: ET.Element) -> list[ET.Element]:
    return [each for each in svg.iter("g") if "bar" in each.get("class", "").split()]


def percents(bar: ET.Element, attribute: str) -> list[float]:
    return [float(rect.get(attribute, "").removesuffix("%")) for rect in bar.iter("rect")]


def labels(svg: ET.Element) -> list[str]:
    return [each.text or "" for each in svg.iter("text") if each.get("class") == "long"]


def test_the_filling_is_the_share_that_is_left() -> None:
    first, second, third = bars(
        drawn(layer("a", 64, 16, "a"), layer("b", 16, 0, "b"), layer("c", 16, 16))
    )
    outline, filling = percents(first, "width")
    assert filling == pytest.approx(outline / 4, abs=0.01)
    # A quarter of the width is half of the length.
    assert percents(second, "width") == pytest.approx([outline / 2, 0], abs=0.01)
    assert percents(third, "width") == pytest.approx([outline / 2] * 2, abs=0.01)


def test_a_width_out_of_range_stays_in_its_outline() -> None:
    for each in bars(drawn(layer("a", 8, 99), layer("b", 0, 5), layer("c", 8, -3))):
        outline, filling = percents(each, "width")
        assert 0 <= filling <= outline <= 100


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (
            ["conv1", "layer1.0.conv1", "layer1.0.downsample.0", "layer1.1.conv1", "fc"],
            ["conv1", "layer1.0", "layer1.1", "fc"],
        ),
        (["stem.conv1.conv", "stem.conv2.conv", "blocks.0.mlp.fc1"], ["stem", "blocks.0"]),
        (["features.0", "features.3", "features.7"], ["features"]),
        (["b1.d1.conv1", "b1.d1.conv2", "b1.d2.conv1", "b1.d2.conv2"], ["b1.d1", "b1.d2"]),
        ([f"features.{i}" for i in range(17)], ["features", "", ""]),
    ],
)
def test_a_row_is_a_block(names: list[str], rows: list[str]) -> None:
    svg = drawn(*(layer(name) for name in names))
    assert labels(svg) == rows
    assert len(bars(svg)) == len(names)
    assert max(x for bar in bars(svg) for x in percents(bar, "x")) < 100


def test_coupled_layers_have_one_colour_and_name_each_other() -> None:
    layers = [
        layer("a", 16, 9, "g"),
        layer("b", 16, 9, "g"),
        layer("c", 16, 4, "h"),
        layer("d", 16, 16),
    ]
    svg = drawn(*layers)
    kinds = [set(bar.get("class", "").split()) - {"bar"} for bar in bars(svg)]
    assert kinds[0] == kinds[1] == {f"k{group_colors(layers)['g']}", "m0"}
    assert kinds[2] == {"k0"}
    assert kinds[3] == {"fixed"}
    assert [*group_colors(layers)] == ["g"]
    titles = [bar.findtext("title") for bar in bars(svg)]
    assert titles == [
        "a (Conv2d): 9 of 16 left; with b",
        "b (Conv2d): 9 of 16 left; with a",
        "c (Conv2d): 4 of 16 left",
        "d (Conv2d): 16 of 16 left, fixed",
    ]


def test_names_are_no_markup() -> None:
    hostile = "</title><script>alert(1)</script>\x1b.0.a"
    text = draw_widths([layer(hostile, 8, 4, hostile), layer(hostile, 8, 4, hostile)])
    assert "<script" not in text
    assert "\x1b" not in text
    ET.fromstring(text)
