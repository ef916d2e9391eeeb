"""A report of a run that trained nothing and measured nothing, in every view."""

import re
from dataclasses import replace

import pytest

from ramda_cli.errors import ConfigError
from ramda_cli.report.comparison import comparison_markdown
from ramda_cli.report.gate import Limits, judge
from ramda_cli.report.html import render_html
from ramda_cli.report.markdown import render_markdown
from ramda_cli.report.plain import build_report, parse_report
from ramda_cli.report.rows import accuracy_rows
from ramda_cli.report.terminal import render_terminal
from tests.report.sample import REPORT, UNTRAINED
from tests.report.test_terminal import rendered, words


def test_what_was_not_measured_is_null_and_read_back():
    document = build_report(UNTRAINED)
    assert [document[key] for key in ("data", "accuracy", "training")] == [None] * 3
    assert parse_report(document) == UNTRAINED


def test_the_terminal_says_so():
    text = words(rendered(render_terminal, build_report(UNTRAINED)))
    assert text.startswith("50.0 % of the MACs, 51.4 % of the parameters; proof passed")
    assert "asked the channels that were zero" in text
    assert "data none: compared on random inputs" in text
    assert "training none: the zeros were there" in text
    assert "top-1" not in text


def test_markdown_says_so():
    text = render_markdown(build_report(UNTRAINED))
    assert "\n\nproof passed\n\n" in text
    assert "| training | none: the zeros were there |" in text
    assert "top" not in text


def test_the_page_says_so():
    page = render_html(build_report(UNTRAINED))
    lead = re.sub(r"<[^>]*>|\s+", " ", page[page.index('<p class="lead">') :])
    assert "51.4 % of the parameters; proof passed" in " ".join(lead.split())
    assert "none: compared on random inputs" in page
    assert "top-1" not in page
    assert "<h2>Training" not in page


def test_a_comparison_with_one_that_was_measured():
    text = comparison_markdown(build_report(UNTRAINED), build_report(REPORT))
    assert "| top\\-1 accuracy | \\- | 98.89 % |  |" in text
    assert "| training | none |" in text
    assert "different data" not in text
    both = comparison_markdown(build_report(UNTRAINED), build_report(UNTRAINED))
    assert "accuracy" not in both


def test_no_accuracy_can_be_demanded():
    assert [verdict.name for verdict in judge(UNTRAINED, Limits(params=10))][1:] == ["max-params"]
    for limits in (Limits(drop=1.0), Limits(metric=0.5)):
        with pytest.raises(ConfigError, match=r"^the report has no accuracy: nothing was measured"):
            judge(UNTRAINED, limits)


def test_rows_that_were_not_measured_are_left_out():
    assert accuracy_rows(None) == []
    assert REPORT.accuracy is not None
    labels = [label for label, _ in accuracy_rows(replace(REPORT.accuracy, dense=None, onnx=None))]
    assert labels == ["trained, before the removal", "after the removal", "reloaded from the file"]
