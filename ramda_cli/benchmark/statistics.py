"""What the times of two models say: how long each takes, and how many times faster one is.

The ratio is the median over rounds of dense / pruned, each from two turns that follow one another:
what slows the machine down for a while slows both. A turn counts by its fastest call, for other
work on the machine only adds to a time. The spread of the ratio is the range between its quartiles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True)
class Timing:
    """How long one model takes for a batch.

    Attributes:
        median_ms: of every call.
        p90_ms: nine of ten calls are faster.
        inputs_per_second: inputs of a batch over the median.
        peak_bytes: of the device's memory during a call, weights included; None off CUDA.
    """

    median_ms: float
    p90_ms: float
    inputs_per_second: float
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Ratio:
    """The median of paired ratios, and the quartiles around it."""

    median: float
    low: float
    high: float


def timing(seconds: Sequence[float], *, batch_size: int, peak_bytes: int | None = None) -> Timing:
    """Summarize the seconds of two calls or more."""
    middle = median(seconds)
    return Timing(
        median_ms=1e3 * middle,
        p90_ms=1e3 * quantiles(seconds, n=10, method="inclusive")[-1],
        inputs_per_second=batch_size / middle,
        peak_bytes=peak_bytes,
    )


def paired_ratio(slow: Sequence[Sequence[float]], fast: Sequence[Sequence[float]]) -> Ratio:
    """Summarize slow / fast over two rounds or more, each the fastest of a turn's calls."""
    ratios = [min(a) / min(b) for a, b in zip(slow, fast, strict=True)]
    low, middle, high = quantiles(ratios, n=4, method="inclusive")
    return Ratio(middle, low, high)
