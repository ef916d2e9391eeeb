"""Times to latencies and ratios, on numbers whose answers are known."""

import pytest

from ramda_cli.benchmark.statistics import Ratio, paired_ratio, timing


def test_a_timing_has_median_ninth_decile_and_throughput():
    seconds = [0.001 * value for value in (9, 1, 2, 3, 4, 5, 6, 7, 8, 10, 0)]
    result = timing(seconds, batch_size=20, peak_bytes=7)
    assert result.median_ms == pytest.approx(5.0)
    assert result.p90_ms == pytest.approx(9.0)
    assert result.inputs_per_second == pytest.approx(4000.0)
    assert result.peak_bytes == 7


def test_a_ratio_is_the_median_of_pairs_with_their_quartiles():
    slow = [[2.0], [3.0], [4.0], [5.0], [6.0]]
    fast = [[1.0], [1.0], [1.0], [1.0], [1.0]]
    assert paired_ratio(slow, fast) == Ratio(4.0, 3.0, 5.0)


def test_pairs_cancel_what_slows_both_turns_of_a_round():
    slowdown = (1, 10, 1, 7, 100, 1, 3)
    slow = [[2.0 * each] * 3 for each in slowdown]
    fast = [[1.0 * each] * 3 for each in slowdown]
    assert paired_ratio(slow, fast) == Ratio(2.0, 2.0, 2.0)


def test_disturbed_calls_of_a_turn_do_not_count():
    slow, fast = [[3.0, 2.0, 90.0]] * 4, [[70.0, 70.0, 1.0]] * 4
    assert paired_ratio(slow, fast) == Ratio(2.0, 2.0, 2.0)


def test_rounds_must_match():
    with pytest.raises(ValueError, match="zip"):
        paired_ratio([[1.0]] * 3, [[1.0]] * 2)
