"""The demands of a CI job on a report."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from ramda_cli.errors import ConfigError
from ramda_cli.report.gate import Limits, judge, junit
from tests.report.sample import LATENCY, REPORT

# The sample: 140,000 parameters, 20.48 M MACs, 590,000 bytes, 98.06 % before and 98.89 % after;
# 1.82 times as fast at batch 32, and 0.75 ms at batch 1.
CASES = [
    ("params", 140_000, 139_999),
    ("macs", 20_480_000, 20_479_999),
    ("size_bytes", 590_000, 589_999),
    ("drop", -0.83, -0.84),
    ("metric", 0.9889, 0.9890),
    ("speedup", 1.82, 1.83),
    ("latency_ms", 0.75, 0.749),
]


@pytest.mark.parametrize(("name", "just", "too_much"), CASES)
def test_a_demand_holds_to_the_last_one(name: str, just: float, too_much: float):
    for limit, expected in ((just, True), (too_much, False)):
        proof, verdict = judge(REPORT, Limits(**{name: limit}))
        assert proof.passed
        assert verdict.passed is expected, verdict.text


def test_verdicts_come_in_one_order_with_both_numbers():
    limits = Limits(
        params=10**6, macs=10**6, size_bytes=1e6, drop=0.5, metric=0.5, speedup=1.3, latency_ms=0.5
    )
    verdicts = judge(REPORT, limits)
    assert [(v.name, v.passed, v.text) for v in verdicts] == [
        ("proof", True, "passed"),
        ("max-params", True, "140 k parameters; at most 1.00 M"),
        ("max-macs", False, "20.5 M MACs; at most 1.00 M"),
        ("max-size-mb", True, "0.59 MB; at most 1 MB"),
        (
            "max-drop",
            True,
            "top-1 accuracy 98.89 %, -0.83 points below 98.06 %; at most 0.5",
        ),
        ("min-metric", True, "top-1 accuracy 98.89 %; at least 50.00 %"),
        ("min-speedup", True, "1.82x (1.79 to 1.86) at batch 32; at least 1.3x"),
        (
            "max-latency-ms",
            False,
            "0.750 ms (nine of ten below 0.850 ms) at batch 1; at most 0.5 ms",
        ),
    ]


def test_a_failed_proof_fails_without_any_demand():
    failed = replace(REPORT, proof=replace(REPORT.proof, passed=False))
    (verdict,) = judge(failed, Limits())
    assert (verdict.name, verdict.passed) == ("proof", False)


def test_a_drop_needs_an_accuracy_to_drop_from():
    headless = replace(REPORT, accuracy=replace(REPORT.accuracy, dense=None))
    with pytest.raises(ConfigError, match="no accuracy before training"):
        judge(headless, Limits(drop=1.0))


def test_a_spread_that_reaches_1_is_no_speed_up():
    *_, verdict = judge(REPORT, Limits(speedup=1.05, batch_size=1))
    assert (verdict.passed, verdict.text) == (
        False,
        "1.06x (0.97 to 1.15) at batch 1; at least 1.05x",
    )
    *_, verdict = judge(REPORT, Limits(speedup=1.0, batch_size=1))
    assert verdict.passed  # not slower was asked for, and the median is not


def test_a_batch_size_is_for_both():
    _, speedup, latency = judge(REPORT, Limits(speedup=1.0, latency_ms=7.0, batch_size=32))
    assert "at batch 32" in speedup.text
    assert "6.60 ms (nine of ten below 7.00 ms) at batch 32" in latency.text


@pytest.mark.parametrize("limits", [Limits(speedup=1.0), Limits(latency_ms=1.0)])
def test_what_was_not_measured_can_be(limits: Limits):
    other = replace(LATENCY, measurements=(replace(LATENCY.measurements[0], runtime="onnx"),))
    for latency in (None, replace(LATENCY, measurements=()), other):
        with pytest.raises(ConfigError, match=r"^the report has no latency$") as caught:
            judge(replace(REPORT, latency=latency), limits)
        assert caught.value.hint == "measure it with --measure"
    with pytest.raises(ConfigError, match=r"no latency at batch 8, but at 1 and 32$") as caught:
        judge(REPORT, replace(limits, batch_size=8))
    assert caught.value.hint == "give one of these, or measure it with --measure"


def test_a_speed_up_needs_a_dense_model():
    alone = replace(LATENCY.measurements[1], dense=None, speedup=None)
    report = replace(REPORT, latency=replace(LATENCY, measurements=(alone,)))
    with pytest.raises(ConfigError, match="the dense model was not measured"):
        judge(report, Limits(speedup=1.0))
    assert judge(report, Limits(latency_ms=10.0))[-1].passed


def test_junit_has_a_case_for_each_demand():
    named = replace(REPORT, accuracy=replace(REPORT.accuracy, metric="a<b>&\x1b\x00"))
    verdicts = judge(named, Limits(macs=10, metric=0.999))
    text = junit(verdicts, suite="ramda check model\x1b.safetensors")
    root = ElementTree.fromstring(text)
    assert root.attrib == {
        "name": "ramda check model .safetensors",
        "tests": "3",
        "failures": "2",
        "errors": "0",
    }
    assert [case.attrib["name"] for case in root] == ["proof", "max-macs", "min-metric"]
    assert [len(case) for case in root] == [0, 1, 1]
    assert root[2][0].attrib["message"].startswith("a<b>&   98.89 %")
