"""Latencies and ratios in words; no ratio is ever said without its spread."""

from itertools import groupby
from typing import Final

from ramda_cli.report.document import Latency, LatencyEntry, RatioEntry
from ramda_cli.report.formatting import counted

_RUNTIMES: Final = {"eager": "torch", "compile": "torch.compile", "onnx": "ONNX Runtime"}


def latency_rows(latency: Latency) -> list[tuple[str, str, str, str]]:
    """Return runtime and batch size, the medians of dense and pruned, and the speed-up."""
    return [
        (
            f"{runtime_name(entry.runtime)}, batch {entry.batch_size}",
            "-" if entry.dense is None else milliseconds(entry.dense.median_ms),
            milliseconds(entry.pruned.median_ms),
            ratio(entry.speedup),
        )
        for entry in latency.measurements
    ]


def runtime_name(runtime: str) -> str:
    """Return the name of a runtime for a person."""
    return _RUNTIMES.get(runtime, runtime)


def milliseconds(value: float) -> str:
    """Return a time with three digits."""
    if value >= 999.5:
        return f"{value:,.0f} ms"
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2 if value >= 0.9995 else 3
    return f"{value:.{digits}f} ms"


def ratio(value: RatioEntry | None) -> str:
    """Return a ratio with its quartiles."""
    return "-" if value is None else f"{value.median:.2f}x ({_spread(value)})"


def threads(number: int) -> str:
    """Return a number of threads."""
    return counted(number, "thread")


def speed_sentence(latency: Latency) -> str:
    """Say where the pruned model is faster, and where it is not.

    Faster counts only when the spread lies above 1, slower when it lies below.
    """
    measured = [entry for entry in latency.measurements if entry.speedup is not None]
    runtimes = groupby(measured, key=lambda entry: entry.runtime)
    parts = [f"{runtime_name(name)}: {_of_runtime([*entries])}" for name, entries in runtimes]
    return "; ".join(parts) or "no dense model was measured, so there is no speed-up to tell"


def _of_runtime(entries: list[LatencyEntry]) -> str:
    largest_first = sorted(entries, key=lambda entry: -entry.batch_size)
    return ", ".join(
        f"{_claim(entry.speedup)} at batch {entry.batch_size}"
        for entry in largest_first
        if entry.speedup is not None
    )


def _claim(speedup: RatioEntry) -> str:
    if speedup.low > 1:
        return f"{speedup.median:.2f}x faster ({_spread(speedup)})"
    if speedup.high < 1:
        return f"{speedup.median:.2f}x, slower ({_spread(speedup)})"
    return f"no speed-up measured ({_spread(speedup)})"


def _spread(value: RatioEntry) -> str:
    return f"{value.low:.2f} to {value.high:.2f}"
