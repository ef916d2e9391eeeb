import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from ramda_cli.errors import FileFormatError
from ramda_cli.report.document import Accuracy, Asked, FixedEntry, GroupEntry, Reached
from ramda_cli.report.inspect_view import render_inspect
from ramda_cli.report.plain import build_inspection, build_report
from ramda_cli.report.terminal import render_terminal
from tests.report.sample import INSPECTION, REPORT


def rendered(show: Any, document: object, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    show(document, console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(len(line) for line in text.splitlines()) <= width
    return text


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_report_fits_its_width(width: int) -> None:
    text = words(rendered(render_terminal, build_report(REPORT), width))
    assert text.startswith("50.0 % of the MACs, 51.4 % of the parameters; top-1 accuracy 98.89 %")


def test_a_report_says_what_matters() -> None:
    text = words(rendered(render_terminal, build_report(REPORT)))
    for part in (
        "98.89 % before and after the removal; proof passed",
        "asked 50.0 % of the MACs",
        "reached 50.0 % of the MACs: 20.5 M of 20.5 M asked for, 0.10 % below, met",
        "training RAMDA, 10 epochs, 230 steps, 1 min 02 s on cpu, seed 0",
        "zero set 100.0 % unchanged since the freeze",
        "loads as native module with patched sizes",
        "made with ramda 0.1.0, torch 2.15.0, 2026-01-05",
        "MACs 41.0 M 20.5 M 50.0 %",
        "parameters 272 k 140 k 51.4 %",
        "safetensors 1.10 MB 590 kB 53.5 %",
        "pretrained, before training 98.06 %",
        "ONNX Runtime 98.89 %",
        "torch, batch 1 0.800 ms 0.750 ms 1.06x (0.97 to 1.15)",
        "torch, batch 32 12.0 ms 6.60 ms 1.82x (1.79 to 1.86)",
        "no speed-up measured (0.97 to 1.15) at batch 1; a CPU, 2 threads",
        "validation batch float64 256 2.1e-15 3.0e-16 1.0e-09 passed",
        "9 32 28 %",
        "64 64 100 %",
        "5 960 blocks.0.norm1,",
        "and 2 more",
        "model output (aten.linear) 1 10 fc",
        "model.safetensors 590 kB abababababababab",
        "note: the head was replaced: 1000 to 10 classes",
    ):
        assert part in text


def test_a_drop_and_a_failed_gate_are_said_aloud() -> None:
    accuracy = Accuracy(metric="top-1 accuracy", before_removal=0.98, after_removal=0.97)
    reached = Reached(
        metric="params",
        share=0.6,
        count=12_000_000,
        requested_count=10_000_000,
        relative_deviation=0.2,
        met=False,
    )
    changed = replace(
        REPORT,
        accuracy=accuracy,
        asked=Asked(metric="params", amount=1e7),
        reached=reached,
        proof=replace(REPORT.proof, passed=False),
    )
    text = words(rendered(render_terminal, build_report(changed)))
    assert "98.00 % before and 97.00 % after the removal; proof FAILED" in text
    assert "asked 10.0 M parameters" in text
    assert "12.0 M of 10.0 M asked for, 20.00 % above, NOT met" in text
    assert "pretrained" not in text
    assert "ONNX" not in text


def test_a_model_that_is_no_classifier_has_no_classes() -> None:
    model = replace(REPORT.model, classes=0)
    shown = rendered(render_terminal, build_report(replace(REPORT, model=model)))
    assert f"{model.name}, weights: " in words(shown)
    assert "classes, weights" not in shown


def test_a_latency_that_was_not_measured_has_no_table() -> None:
    text = rendered(render_terminal, build_report(replace(REPORT, latency=None)))
    assert "speed-up" not in text
    assert "latency" not in text


def test_a_weight_has_no_deviation() -> None:
    changed = replace(
        REPORT,
        asked=Asked(weight=1e-6),
        reached=Reached(metric="macs", share=0.7, count=28_700_000, met=True),
    )
    text = words(rendered(render_terminal, build_report(changed)))
    assert "asked regularization weight 1e-06" in text
    assert "reached 70.0 % of the MACs: 28.7 M training" in text


def test_the_regularizer_of_a_weight_is_named() -> None:
    changed = replace(REPORT, asked=Asked(weight=1e-6, regularizer="group-mcp"))
    text = words(rendered(render_terminal, build_report(changed)))
    assert "asked regularization weight 1e-06, group MCP" in text


def test_many_groups_are_cut_to_those_that_lost_most() -> None:
    groups = tuple(
        GroupEntry(name=f"group{index}", channels=100, kept=index + 1, parameters=())
        for index in range(60)
    )
    text = rendered(render_terminal, build_report(replace(REPORT, groups=groups)))
    assert "group39 " in text
    assert "group40" not in text
    assert "and 20 groups that lost less; --format json lists all" in words(text)


def test_names_from_the_file_stay_text() -> None:
    fixed = (FixedEntry(name="a[red]b\x1b[2J", reason="[link=x]r", operator="o", channels=1),)
    groups = (GroupEntry(name="[/]x", channels=0, kept=0, parameters=()),)
    text = rendered(render_terminal, build_report(replace(REPORT, fixed=fixed, groups=groups)))
    assert "a[red]b\\x1b[2J" in text
    assert "[link=x]r" in text
    assert "[/]x" in text
    assert "\x1b" not in text


def test_other_documents_are_refused() -> None:
    with pytest.raises(FileFormatError):
        render_terminal({}, Console(file=io.StringIO()))
    with pytest.raises(FileFormatError):
        render_inspect({"schema": 1}, Console(file=io.StringIO()))


@pytest.mark.parametrize("width", [40, 80, 120])
def test_an_inspection_fits_its_width(width: int) -> None:
    text = words(rendered(render_inspect, build_inspection(INSPECTION), width))
    assert "32 channels can be removed in 1 group; at stake are 95.0 % of the MACs" in text


def test_an_inspection_says_what_is_at_stake_and_why_not() -> None:
    text = words(rendered(render_inspect, build_inspection(INSPECTION)))
    for part in (
        "and 93.0 % of the parameters",
        "size 41.0 M MACs, 272 k parameters, 784 channels",
        "fixed 970 channels in 6 sets",
        "layer1.0.conv1 32 channel 9,600 1.28 M 3.1 %",
        "model output (aten.linear) 1 10 fc",
        "note: one operator has no rule",
    ):
        assert part in text


def test_an_inspection_with_nothing_to_remove_says_so() -> None:
    text = rendered(render_inspect, build_inspection(replace(INSPECTION, groups=())))
    assert "nothing can be removed from this model" in text


def test_many_candidates_are_cut_to_those_with_most_at_stake() -> None:
    groups = tuple(
        replace(INSPECTION.groups[0], name=f"group{index}", macs=index) for index in range(70)
    )
    text = words(rendered(render_inspect, build_inspection(replace(INSPECTION, groups=groups))))
    assert "group9 " not in text
    assert "group10 " in text
    assert "and 10 groups with fewer MACs; --json lists all" in text


def test_a_narrow_report_breaks_no_number_of_the_proof() -> None:
    text = rendered(render_terminal, build_report(REPORT), 60)
    (line,) = (line for line in text.splitlines() if "2.1e-15" in line)
    assert line.split()[-4:] == ["float64", "2.1e-15", "1.0e-09", "passed"]
