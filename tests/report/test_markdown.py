"""The markdown report: what it says, and that nothing of a file is markup."""

import re
from dataclasses import replace

from ramda_cli.report.markdown import escaped, render_markdown
from ramda_cli.report.plain import build_report
from tests.report.sample import LATENCY, REPORT


def test_it_says_what_a_reviewer_asks():
    text = render_markdown(build_report(REPORT))
    assert text.startswith("### digits\\-resnet: 50.0 % of the MACs, 51.4 % of the parameters\n")
    assert "top\\-1 accuracy 98.89 % before and after the removal; proof passed" in text
    assert "| MACs | 41.0 M | 20.5 M | 50.0 % |" in text
    assert "| validation batch | float64 | 256 | 2.1e-15 | 1.0e-09 | passed |" in text
    assert "| torch, batch 32 | 12.0 ms | 6.60 ms | 1.82x \\(1.79 to 1.86\\) |" in text
    assert "at batch 1; a CPU, 2 threads\n" in text
    assert "| layer1.0.conv1 | 9 | 32 | 28 % |" in text
    assert "| model.safetensors | abababababababab |" in text
    assert "> the head was replaced: 1000 to 10 classes" in text


def test_what_was_trained_further_comes_first():
    accuracy = replace(REPORT.accuracy, before_removal=0.9, after_removal=0.9, recovered=0.9889)
    text = render_markdown(build_report(replace(REPORT, accuracy=accuracy)))
    expected = "98.89 %, trained further from 90.00 % before and after the removal; proof passed"
    assert expected in text
    assert "| trained further | 98.89 % |" in text


def test_a_failed_proof_and_a_missed_target_stand_out():
    failed = replace(
        REPORT,
        proof=replace(REPORT.proof, passed=False),
        reached=replace(REPORT.reached, met=False),
    )
    text = render_markdown(build_report(failed))
    assert "**proof FAILED**; **the target was not met**" in text


def test_a_latency_that_was_not_measured_is_not_there():
    assert "latency" not in render_markdown(build_report(replace(REPORT, latency=None)))


def test_every_table_has_rows_of_one_length():
    lines = render_markdown(build_report(REPORT)).splitlines()
    tables: list[list[int]] = [[]]
    for line in lines:
        if line.startswith("|"):
            tables[-1].append(len(re.findall(r"(?<!\\\\)\|", line)))
        else:
            tables.append([])
    assert all(len(set(cells)) == 1 for cells in tables if cells)
    assert sum(1 for cells in tables if cells) == 7


def test_names_are_no_markup():
    hostile = "</details><script>alert(1)</script> | @everyone [x](http://a) `b` **c**\n# d\x1b[31m"
    report = replace(
        REPORT,
        model=replace(REPORT.model, name=hostile),
        notes=(hostile,),
        groups=(replace(REPORT.groups[0], name=hostile),),
        matrices=(replace(REPORT.matrices[1], name=hostile, reason=hostile),),
        latency=replace(
            LATENCY,
            device=hostile,
            measurements=(replace(LATENCY.measurements[0], runtime=hostile),),
        ),
    )
    text = render_markdown(build_report(report))
    assert "<script>" not in text
    assert text.count("</details>") == 3
    assert "@everyone" not in text.replace("\\@everyone", "")
    assert "\x1b" not in text
    assert "\n# d" not in text
    assert escaped("a|b<c>`d`") == "a\\|b\\<c\\>\\`d\\`"
