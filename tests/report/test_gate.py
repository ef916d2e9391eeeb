"""The demands of a CI job on a report."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from ramda_cli.errors import ConfigError
from ramda_cli.report.gate import Limits, judge, junit
from tests.report.sample import REPORT

# The sample: 140,000 parameters, 20.48 M MACs, 590,000 bytes, 98.06 % before and 98.89 % after.
CASES = [
    ("params", 140_000, 139_999),
    ("macs", 20_480_000, 20_479_999),
    ("size_bytes", 590_000, 589_999),
    ("drop", -0.83, -0.84),
    ("metric", 0.9889, 0.9890),
]


@pytest.mark.parametrize(("name", "just", "too_much"), CASES)
def test_a_demand_holds_to_the_last_one(name: str, just: float, too_much: float):
    for limit, expected in ((just, True), (too_much, False)):
        proof, verdict = judge(REPORT, Limits(**{name: limit}))
        assert proof.passed
        assert verdict.passed is expected, verdict.text


def test_verdicts_come_in_one_order_with_both_numbers():
    limits = Limits(params=10**6, macs=10**6, size_bytes=1e6, drop=0.5, metric=0.5)
    verdicts = judge(REPORT, limits)
    assert [(v.name, v.passed, v.text) for v in verdicts] == [
        ("proof", True, "passed"),
        ("max-params", True, "140 k parameters of at most 1.00 M parameters"),
        ("max-macs", False, "20.5 M MACs of at most 1.00 M MACs"),
        ("max-size-mb", True, "0.59 MB of at most 1 MB"),
        (
            "max-drop",
            True,
            "top-1 accuracy 98.89 %, -0.83 points below 98.06 %, of at most 0.5",
        ),
        ("min-metric", True, "top-1 accuracy 98.89 % of at least 50.00 %"),
    ]


def test_a_failed_proof_fails_without_any_demand():
    failed = replace(REPORT, proof=replace(REPORT.proof, passed=False))
    (verdict,) = judge(failed, Limits())
    assert (verdict.name, verdict.passed) == ("proof", False)


def test_a_drop_needs_an_accuracy_to_drop_from():
    headless = replace(REPORT, accuracy=replace(REPORT.accuracy, dense=None))
    with pytest.raises(ConfigError, match="no accuracy before training"):
        judge(headless, Limits(drop=1.0))


def test_junit_has_a_case_for_each_demand():
    named = replace(REPORT, accuracy=replace(REPORT.accuracy, metric="a<b>&\x1b\x00"))
    text = junit(judge(named, Limits(macs=10, metric=0.999)), suite="ramda check model.safetensors")
    root = ElementTree.fromstring(text)
    assert root.attrib == {
        "name": "ramda check model.safetensors",
        "tests": "3",
        "failures": "2",
        "errors": "0",
    }
    assert [case.attrib["name"] for case in root] == ["proof", "max-macs", "min-metric"]
    assert [len(case) for case in root] == [0, 1, 1]
    assert root[2][0].attrib["message"].startswith("a<b>&   98.89 %")
