"""Two reports side by side, in a terminal and in markdown."""

from dataclasses import replace

from rich.console import Console

from ramda_cli.report.comparison import comparison_markdown, render_comparison
from ramda_cli.report.document import GroupEntry
from ramda_cli.report.plain import build_report
from tests.report.sample import LATENCY, REPORT

OTHER = replace(
    REPORT,
    model=replace(REPORT.model, name="other|net"),
    data=replace(REPORT.data, fingerprint="cd34"),
    size=replace(REPORT.size, pruned=replace(REPORT.size.pruned, macs=10_240_000)),
    accuracy=replace(REPORT.accuracy, after_removal=0.9789),
    latency=replace(LATENCY, measurements=(replace(LATENCY.measurements[0], runtime="onnx"),)),
    groups=(
        replace(REPORT.groups[0], kept=3),
        GroupEntry(name="new", channels=8, kept=8, parameters=()),
    ),
)


def _shown() -> str:
    console = Console(width=100, force_terminal=False)
    with console.capture() as captured:
        render_comparison(build_report(REPORT), build_report(OTHER), console)
    return captured.get()


def test_both_figures_and_the_change_stand_in_a_line():
    lines = {line.split("  ")[0].strip(): line.split() for line in _shown().splitlines()}
    assert lines["MACs"][1:] == ["20.5", "M", "10.2", "M", "-50.0", "%"]
    assert lines["top-1 accuracy"][2:] == ["98.89", "%", "97.89", "%", "-1.00", "points"]
    assert lines["latency, torch, batch 32"][4:] == ["6.60", "ms", "-"]
    assert lines["speed-up, torch, batch 32"][4:] == ["1.82x", "(1.79", "to", "1.86)", "-"]
    assert lines["latency, ONNX Runtime, batch 1"][5:] == ["-", "0.750", "ms"]
    assert lines["layer1.0.conv1"][1:] == ["9", "of", "32", "3", "of", "32", "-67", "%"]
    assert lines["layer2.0.conv1"][1:] == ["64", "of", "64", "-"]
    assert lines["new"][1:] == ["-", "8", "of", "8"]
    assert "note: the two were measured on different data" in _shown()


def test_the_markdown_says_the_same():
    text = comparison_markdown(build_report(REPORT), build_report(OTHER))
    assert "| MACs | 20.5 M | 10.2 M | -50.0 % |" in text
    assert "| model | digits\\-resnet | other\\|net |  |" in text
    assert "| new | \\- | 8 of 8 |  |" in text
    assert text.endswith("> the two were measured on different data\n")


def test_a_latency_of_neither_has_no_line():
    silent = build_report(replace(REPORT, latency=None))
    assert "speed-up" not in comparison_markdown(silent, silent)


def test_metrics_of_different_names_are_not_subtracted():
    renamed = replace(OTHER, accuracy=replace(OTHER.accuracy, metric="F1"), data=REPORT.data)
    text = comparison_markdown(build_report(REPORT), build_report(renamed))
    assert "| top\\-1 accuracy / F1 | 98.89 % | 97.89 % |  |" in text
    assert "different data" not in text
