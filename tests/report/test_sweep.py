import io
import json

import pytest
from rich.console import Console

from ramda_cli.errors import FileFormatError
from ramda_cli.report.plain import build_sweep, parse_sweep
from ramda_cli.report.sweep import Point, Sweep, over_seeds, pareto_front
from ramda_cli.report.sweep_view import render_sweep, sweep_html, sweep_markdown


def point(name: str, macs: float, accuracy: float, method: str = "ramda", seed: int = 0) -> Point:
    return Point(
        directory=name,
        asked={"macs": macs},
        method=method,
        seed=seed,
        macs_share=macs,
        params_share=macs,
        metric="top-1 <b>",
        dense=0.9,
        pruned=accuracy,
        unchanged=name != "c",
        met=name != "c",
    )


POINTS = (
    point("a", 0.5, 0.9),
    point("b", 0.5, 0.8, "taylor"),
    point("c", 0.3, 0.85),
    point("d", 0.6, 0.9),
)
DOCUMENT = build_sweep(Sweep(model="<script>net\x1b", points=POINTS))


def test_the_front_has_what_nothing_beats_in_both() -> None:
    assert [each.directory for each in pareto_front(POINTS)] == ["c", "a"]
    assert pareto_front(()) == []


def test_a_document_is_read_back() -> None:
    assert build_sweep(parse_sweep(json.loads(json.dumps(DOCUMENT)))) == DOCUMENT
    with pytest.raises(FileFormatError, match=r"^the sweep is damaged at points"):
        parse_sweep({**DOCUMENT, "points": [{}]})


def test_every_view_escapes_and_tells_what_is_wrong() -> None:
    page, text, console = sweep_html(DOCUMENT), sweep_markdown(DOCUMENT), io.StringIO()
    render_sweep(DOCUMENT, Console(file=console, width=100))
    assert "<script>" not in page
    assert "<svg" in page
    assert "top-1 &lt;b&gt;" in page
    assert "\\<script\\>" in text
    for shown in (page, text, console.getvalue()):
        assert "\x1b" not in shown
        assert "target not met" in shown
        assert "90.00 %" in shown
    assert console.getvalue().count("best") == 2


def test_several_seeds_have_a_mean_and_its_standard_error() -> None:
    runs = [point(f"r{seed}", 0.5, 0.8 + 0.03 * seed, seed=seed) for seed in range(3)]
    (mean,) = over_seeds((*runs, point("other", 0.4, 0.1)))
    assert (mean.method, mean.runs, mean.asked) == ("ramda", 3, {"macs": 0.5})
    assert mean.pruned == pytest.approx(0.83)
    assert mean.standard_error == pytest.approx(0.03 / 3**0.5)
    document = build_sweep(Sweep(model="net", points=tuple(runs)))
    console = io.StringIO()
    render_sweep(document, Console(file=console, width=100))
    for shown in (sweep_html(document), sweep_markdown(document), console.getvalue()):
        assert "standard error" in shown
        assert "83.00 %" in shown
        assert "1.73 %" in shown
    assert "standard error" not in sweep_markdown(DOCUMENT)
