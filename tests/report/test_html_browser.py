"""The report's page in a real browser: it says everything, asks for nothing, and fits the screen.

Needs playwright, of which the driver alone is used, and a Chromium of the system.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ramda_cli.report.document import EpochEntry, GroupEntry, LayerEntry
from ramda_cli.report.html import render_html
from ramda_cli.report.plain import build_report
from tests.report.sample import REPORT

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")

GROUPS, EPOCHS = 300, 200
LONG = "a_name_without_a_place_to_break_it_" * 3
VIEWS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of a large run."""
    names = [f"blocks.{number // 4}.layer{number % 4}" for number in range(GROUPS)]
    report = replace(
        REPORT,
        model=replace(REPORT.model, name=LONG),
        groups=tuple(
            GroupEntry(name=name, channels=256, kept=number % 257, parameters=(LONG, "b.weight"))
            for number, name in enumerate(names)
        ),
        layers=tuple(
            LayerEntry(
                name=name, kind="Conv2d", width=256, kept=number % 257,
                groups=(names[number - number % 2],),
            )
            for number, name in enumerate(names)
        ),
        training=replace(
            REPORT.training,
            history=tuple(
                EpochEntry(
                    epoch=epoch, loss=1 / (epoch + 1), metric=0.5, group_sparsity=0.1,
                    macs_share=0.5, certificate=1e-9 / (epoch + 1), zero_set_change=0.0,
                )
                for epoch in range(EPOCHS + 1)
            ),
        ),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_html(build_report(report)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, request: pytest.FixtureRequest, page_file: Path) -> Iterator[Any]:
    """Open the page as a view shows it, and see that it neither complains nor asks."""
    width, scheme = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    opened, said, asked = context.new_page(), [], []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda sent: asked.append(sent.url))
    opened.goto(page_file.as_uri())
    yield opened
    assert said == []
    assert asked == [page_file.as_uri()]
    context.close()


def test_a_large_report_is_a_small_file(page_file: Path) -> None:
    assert page_file.stat().st_size < 2_000_000


@pytest.mark.parametrize("page", VIEWS, indirect=True)
def test_nothing_is_wider_than_the_screen(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    root = "document.documentElement"
    assert page.evaluate(f"{root}.scrollWidth") == page.evaluate(f"{root}.clientWidth")
    # Bars and numbers of the picture too, which is cut off where it is too narrow.
    right = page.evaluate(
        "Math.max(...[...document.querySelectorAll('.widths rect, .widths text')]"
        ".map(each => each.getBoundingClientRect().right))"
    )
    assert right <= page.viewport_size["width"]


@pytest.mark.parametrize("page", VIEWS, indirect=True)
def test_every_summary_opens_and_shows_what_it_holds(page: Any) -> None:
    group = page.get_by_text("blocks.74.layer3", exact=True).locator("visible=true")
    assert group.count() == 0
    for summary in page.locator(".section > summary").all():
        summary.click()
    assert group.count() == 1
    assert page.get_by_text("b.weight").locator("visible=true").count() == 0
    group.click()
    for text in ("aten.native_layer_norm mixes the channels", "epochs: 10", "b.weight"):
        assert page.get_by_text(text).locator("visible=true").count() > 0, text
    page.locator(".section > summary").first.click()
    assert group.count() == 0


@pytest.mark.parametrize("page", VIEWS, indirect=True)
def test_light_is_light_and_dark_is_dark(page: Any, request: pytest.FixtureRequest) -> None:
    scheme = request.node.callspec.params["page"][1]
    paper, ink, curve = page.evaluate(
        "['body|backgroundColor', 'body|color', '.curves text|fill'].map(each => {"
        " const [where, what] = each.split('|');"
        " return getComputedStyle(document.querySelector(where))[what]; })"
    )
    assert (brightness(paper) > 200) == (scheme == "light")
    assert abs(brightness(paper) - brightness(ink)) > 150
    assert abs(brightness(paper) - brightness(curve)) > 80


@pytest.mark.parametrize("page", VIEWS[:1], indirect=True)
def test_pointing_at_a_layer_shades_those_that_it_is_not_coupled_with(page: Any) -> None:
    bars = page.locator(".widths .bar")
    assert bars.count() == GROUPS
    bars.nth(2).locator(".all").hover()
    opacities = [bars.nth(i).evaluate("each => getComputedStyle(each).opacity") for i in range(5)]
    assert opacities == ["0.2", "0.2", "1", "1", "0.2"]


@pytest.mark.parametrize("page", VIEWS[1:2], indirect=True)
def test_on_paper_nothing_stays_folded(page: Any) -> None:
    assert not page.get_by_text("epochs: 10").is_visible()
    page.emulate_media(media="print")
    assert page.get_by_text("epochs: 10").is_visible()
    assert brightness(page.evaluate("getComputedStyle(document.body).backgroundColor")) == 255
    assert len(page.pdf(format="A4")) > 10_000


def brightness(color: str) -> float:
    red, green, blue = (float(part) for part in color.strip("rgb()").split(",")[:3])
    return 0.299 * red + 0.587 * green + 0.114 * blue
