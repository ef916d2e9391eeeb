"""Latencies in words: what counts as faster, and that no ratio goes without its spread."""

import re
from dataclasses import replace

import pytest
from rich.console import Console

from ramda_cli.errors import FileFormatError
from ramda_cli.report.bench_view import render_bench
from ramda_cli.report.document import Latency, LatencyEntry, RatioEntry
from ramda_cli.report.plain import build_benchmark
from ramda_cli.report.speed import latency_rows, milliseconds, speed_sentence
from tests.report.sample import BENCHMARK, LATENCY

SMALL, LARGE = LATENCY.measurements


def measured(*entries: LatencyEntry) -> Latency:
    return replace(LATENCY, measurements=entries)


def with_ratio(median: float, low: float, high: float, **more: object) -> LatencyEntry:
    return replace(LARGE, speedup=RatioEntry(median=median, low=low, high=high), **more)


def test_the_sentence_names_the_largest_batch_first():
    assert speed_sentence(LATENCY) == (
        "torch: 1.82x faster (1.79 to 1.86) at batch 32,"
        " no speed-up measured (0.97 to 1.15) at batch 1"
    )


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (with_ratio(1.2, 1.001, 1.3), "torch: 1.20x faster (1.00 to 1.30) at batch 32"),
        (with_ratio(1.2, 1.0, 1.3), "torch: no speed-up measured (1.00 to 1.30) at batch 32"),
        (with_ratio(0.9, 0.8, 1.0), "torch: no speed-up measured (0.80 to 1.00) at batch 32"),
        (with_ratio(0.9, 0.8, 0.99), "torch: 0.90x, slower (0.80 to 0.99) at batch 32"),
    ],
)
def test_only_a_spread_beside_1_counts(entry: LatencyEntry, sentence: str):
    assert speed_sentence(measured(entry)) == sentence


def test_every_runtime_has_its_part():
    entries = (LARGE, replace(LARGE, runtime="compile"), with_ratio(0.8, 0.7, 0.9, runtime="onnx"))
    assert speed_sentence(measured(*entries)) == (
        "torch: 1.82x faster (1.79 to 1.86) at batch 32;"
        " torch.compile: 1.82x faster (1.79 to 1.86) at batch 32;"
        " ONNX Runtime: 0.80x, slower (0.70 to 0.90) at batch 32"
    )


def test_without_a_dense_model_nothing_is_claimed():
    alone = replace(LARGE, dense=None, speedup=None)
    assert latency_rows(measured(alone)) == [("torch, batch 32", "-", "6.60 ms", "-")]
    for latency in (measured(alone), measured()):
        assert speed_sentence(latency) == (
            "no dense model was measured, so there is no speed-up to tell"
        )


def test_times_have_three_digits():
    shown = [milliseconds(value) for value in (0.0123, 0.9994, 0.9996, 9.994, 9.996, 99.94, 99.96)]
    assert shown == ["0.012 ms", "0.999 ms", "1.00 ms", "9.99 ms", "10.0 ms", "99.9 ms", "100 ms"]
    assert milliseconds(12345.6) == "12,346 ms"


def _shown(**changes: object) -> str:
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        render_bench(build_benchmark(replace(BENCHMARK, **changes)), console)
    return captured.get()


def test_the_view_of_a_benchmark():
    lines = [" ".join(line.split()) for line in _shown().splitlines()]
    for expected in (
        "pruned out/model.safetensors",
        "dense digits-resnet",
        "device a CPU, 2 threads",
        "torch dense 12.0 ms 13.0 ms 2,667",
        "batch 32 pruned 6.60 ms 7.00 ms 4,848 1.82x (1.79 to 1.86)",
        "note: loading net.py:build ran the Python code of that file",
    ):
        assert expected in lines
    assert "memory" not in _shown()
    ratios = re.findall(r"\d\.\d\dx(?: faster)? (.)", _shown())
    assert set(ratios) == {"("}
    assert len(ratios) == 3


def test_the_memory_has_a_column_where_it_was_measured():
    peak = replace(LARGE, pruned=replace(LARGE.pruned, peak_bytes=12_300_000))
    lines = [" ".join(line.split()) for line in _shown(latency=measured(peak)).splitlines()]
    assert "torch dense 12.0 ms 13.0 ms 2,667 -" in lines
    assert any(line.startswith("batch 32 pruned 6.60 ms 7.00 ms 4,848 12.3 MB") for line in lines)


def test_a_model_alone_has_one_row():
    alone = replace(LARGE, dense=None, speedup=None)
    text = _shown(dense=None, latency=measured(alone))
    assert "torch, batch 32   pruned   6.60 ms" in text
    assert "x (" not in text
    assert "not measured" in text


def test_names_of_a_document_are_no_markup():
    text = _shown(file="[red]x\x1b[2J", latency=replace(LATENCY, device="[/]d"))
    assert "[red]x\\x1b[2J" in text
    assert "[/]d" in text
    with pytest.raises(FileFormatError):
        render_bench({"schema": 1}, Console())
