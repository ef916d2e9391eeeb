"""From a target to a budget and back, where the stages' own tests do not go."""

import pytest

from ramda_cli.pipeline.targets import reached, reached_latency
from ramda_cli.report.document import Latency, LatencyEntry, RatioEntry, TimingEntry
from ramda_cli.training import Limit


def timing(milliseconds: float) -> TimingEntry:
    return TimingEntry(median_ms=milliseconds, p90_ms=milliseconds, inputs_per_second=1.0)


def latency(dense: float, pruned: float, speedup: float) -> Latency:
    entry = LatencyEntry(
        runtime="eager",
        batch_size=1,
        rounds=9,
        dense=timing(dense),
        pruned=timing(pruned),
        speedup=RatioEntry(median=speedup, low=speedup, high=speedup),
    )
    other = LatencyEntry(runtime="eager", batch_size=32, rounds=9, pruned=timing(99.0))
    return Latency(device="cpu", threads=1, measurements=(other, entry))


def test_a_count_is_met_from_below() -> None:
    limit = Limit("macs", dense=1000, count=500)
    below, above = reached(limit, 490), reached(limit, 501)
    assert (below.share, below.relative_deviation, below.met) == (0.49, -0.02, True)
    assert not above.met


@pytest.mark.parametrize(
    ("amount", "speedup", "deviation", "met"),
    [(0.5, 2.0, 0.0, True), (0.5, 1.85, 0.081, True), (0.5, 1.8, 0.111, False)],
)
def test_a_share_of_latency_is_the_inverse_of_the_speed_up(
    amount: float, speedup: float, deviation: float, met: bool
) -> None:
    found = reached_latency(latency(10.0, 5.2, speedup), amount)
    assert found.share == 1 / speedup
    assert (found.count, found.requested_count) == (5_200_000, 5_000_000)
    assert found.relative_deviation == pytest.approx(deviation, abs=1e-3)
    assert found.met == met


def test_milliseconds_are_compared_with_the_clock() -> None:
    found = reached_latency(latency(10.0, 6.3, 1.6), 6.0)
    assert (found.count, found.requested_count) == (6_300_000, 6_000_000)
    assert found.relative_deviation == pytest.approx(0.05)
    assert found.met
    assert not reached_latency(latency(10.0, 6.7, 1.5), 6.0).met
