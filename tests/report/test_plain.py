import json
from dataclasses import replace
from typing import Any

import pytest

from ramda_cli.errors import FileFormatError
from ramda_cli.report.plain import (
    build_benchmark,
    build_inspection,
    build_report,
    parse_benchmark,
    parse_inspection,
    parse_report,
)
from tests.report.sample import BENCHMARK, INSPECTION, REPORT

ORDER = [
    "schema",
    "model",
    "data",
    "asked",
    "reached",
    "further",
    "size",
    "accuracy",
    "latency",
    "proof",
    "groups",
    "fixed",
    "layers",
    "matrices",
    "training",
    "layout",
    "files",
    "notes",
    "reproducibility",
]


def test_a_report_round_trips_through_json() -> None:
    document = build_report(REPORT)
    text = json.dumps(document, allow_nan=False)
    assert json.loads(text) == document
    again = parse_report(json.loads(text))
    # The one number that is not finite became null.
    epoch = replace(REPORT.training.history[0], certificate=None)
    assert again == replace(REPORT, training=replace(REPORT.training, history=(epoch,)))
    assert build_report(again) == document


def test_an_inspection_round_trips_through_json() -> None:
    document = build_inspection(INSPECTION)
    assert parse_inspection(json.loads(json.dumps(document))) == INSPECTION


def test_the_key_order_is_stable() -> None:
    document: dict[str, Any] = build_report(REPORT)
    assert list(document) == ORDER
    assert list(document["size"]["dense"]) == ["params", "macs", "channels", "bytes"]


def test_a_report_from_before_latencies_is_read() -> None:
    document = build_report(REPORT)
    del document["latency"]
    assert parse_report(document).latency is None
    assert parse_report({**document, "latency": None}).latency is None


def test_a_benchmark_round_trips_through_json() -> None:
    document = build_benchmark(BENCHMARK)
    assert parse_benchmark(json.loads(json.dumps(document))) == BENCHMARK
    del document["latency"]
    with pytest.raises(FileFormatError, match=r"^the benchmark is damaged at latency: "):
        parse_benchmark(document)


def test_a_file_from_before_layers_were_recorded_still_reads() -> None:
    document: dict[str, Any] = build_report(REPORT)
    del document["layers"], document["model"]["license"], document["data"]["hub_id"]
    del document["training"]["history"][0]["zero_set_change"], document["groups"][0]["held"]
    first = replace(REPORT.groups[0], held=0)
    again = parse_report(document)
    assert (again.layers, again.groups) == ((), (first, *REPORT.groups[1:]))


@pytest.mark.parametrize("number", [2**63, -(10**400)])
def test_an_integer_that_no_float_holds_is_refused(number: int) -> None:
    document: dict[str, Any] = build_report(REPORT)
    document["layers"][0]["width"] = number
    with pytest.raises(FileFormatError, match="holds an integer beyond 64 bits"):
        parse_report(document)
    document["layers"][0]["width"] = 2**63 - 1
    assert parse_report(document).layers[0].width == 2**63 - 1


def test_unknown_keys_are_ignored() -> None:
    assert parse_inspection({**build_inspection(INSPECTION), "later": 1}) == INSPECTION


@pytest.mark.parametrize("document", [None, [], "x", {}, {"schema": 2}])
def test_another_schema_is_refused(document: Any) -> None:
    found = document.get("schema") if isinstance(document, dict) else None
    with pytest.raises(FileFormatError) as caught:
        parse_report(document)
    assert str(caught.value) == f"the report has schema {found}; this version reads 1"


def test_a_damaged_report_is_named() -> None:
    document: dict[str, Any] = build_report(REPORT)
    document["proof"]["checks"][0]["passed"] = "perhaps"
    with pytest.raises(
        FileFormatError, match=r"^the report is damaged at proof\.checks\.0\.passed"
    ):
        parse_report(document)
    del document["proof"]
    with pytest.raises(FileFormatError, match=r"damaged at proof: Field required"):
        parse_report(document)
