import pytest

from ramda_cli.report.formatting import (
    count,
    counted,
    difference,
    duration,
    percent,
    share_of,
    size_bytes,
    text_of,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10.0 k"),
        (272_474, "272 k"),
        (999_499, "999 k"),
        (999_500, "1.00 M"),
        (41_000_000, "41.0 M"),
        (4.11e9, "4.11 G"),
        (5e15, "5000 T"),
    ],
)
def test_counts(value: float, shown: str) -> None:
    assert count(value) == shown


def test_a_noun_follows_its_number() -> None:
    assert [counted(n, "epoch") for n in (0, 1, 1234)] == ["0 epochs", "1 epoch", "1,234 epochs"]


def test_sizes() -> None:
    assert [size_bytes(value) for value in (0, 999, 590_000, 1_103_000)] == [
        "0 B",
        "999 B",
        "590 kB",
        "1.10 MB",
    ]


def test_only_exact_zero_is_shown_as_zero() -> None:
    assert [difference(value) for value in (0.0, 1e-300, None)] == ["0", "1.0e-300", "-"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (9.9, "9.9 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (62.2, "1 min 02 s"),
        (3599.6, "1 h 00 min"),
        (7_320, "2 h 02 min"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_shares() -> None:
    assert percent(0.98888, digits=2) == "98.89 %"
    assert percent(None) == "-"
    assert share_of(0, 0) == 1.0
    assert share_of(1, 4) == 0.25


def test_untrusted_text_has_neither_markup_nor_control_characters() -> None:
    text = text_of("[bold]a\x1b[31m\n\u202eb é")
    assert text.plain == "[bold]a\\x1b[31m\\n\\u202eb é"
    assert not text.spans
