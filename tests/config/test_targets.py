import pytest

from ramda_cli.config.schema import TargetConfig
from ramda_cli.config.targets import parse_target, parse_targets
from ramda_cli.errors import ConfigError

FORM = (
    "target must be METRIC=AMOUNT with METRIC one of macs, params, channels, heads, ffn,"
    " body-macs, body-params, size-mb, latency, got {!r}"
)
AMOUNT = "target {} must be a share in (0, 1] or a whole count above 1, got {!r}"
EXAMPLES = "for example --target macs=0.5 for half of the MACs, or --target params=10M"


@pytest.mark.parametrize(
    ("text", "metric", "amount"),
    [
        ("macs=0.5", "macs", 0.5),
        ("macs=1", "macs", 1.0),
        ("macs=.25", "macs", 0.25),
        ("params=10M", "params", 10_000_000.0),
        ("macs=2G", "macs", 2e9),
        ("macs=2.3k", "macs", 2300.0),
        ("params=1e6", "params", 1e6),
        ("channels=5e-1", "channels", 0.5),
        (" Channels = 12 ", "channels", 12.0),
        ("macs=0.001K", "macs", 1.0),
        ("size-mb=9.5", "size_mb", 9.5),
        ("latency=0.5", "latency", 0.5),
        ("Latency=12.25", "latency", 12.25),
    ],
)
def test_reads_shares_and_counts(text: str, metric: str, amount: float) -> None:
    assert parse_target(text) == (metric, amount)
    assert TargetConfig.model_validate({metric: amount}).amounts == {metric: amount}


def test_several_targets_are_one_of_each() -> None:
    assert parse_targets(["macs=0.5", "params=10M"]) == {"macs": 0.5, "params": 1e7}
    with pytest.raises(ConfigError, match=r"^target size-mb is given twice$"):
        parse_targets(["size-mb=5", "size-mb=6"])


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("foo", FORM.format("foo"), EXAMPLES),
        ("", FORM.format(""), EXAMPLES),
        ("=0.5", FORM.format("=0.5"), EXAMPLES),
        ("macs", FORM.format("macs"), "did you mean macs=0.5?"),
        ("flops=0.3", FORM.format("flops=0.3"), "did you mean macs=0.3?"),
        ("param=10M", FORM.format("param=10M"), "did you mean params=10M?"),
        ("size=5", FORM.format("size=5"), "did you mean size-mb=5?"),
        ("time=0.5", FORM.format("time=0.5"), EXAMPLES),
        (
            "latency=12ms",
            "target latency must be a share in (0, 1] or milliseconds above 1, got '12ms'",
            "write the number alone: latency=12",
        ),
        (
            "size-mb=5M",
            "target size-mb must be a share in (0, 1] or megabytes above 1, got '5M'",
            "write the number alone: size-mb=5",
        ),
        ("macs=", AMOUNT.format("macs", ""), EXAMPLES),
        ("macs=half", AMOUNT.format("macs", "half"), EXAMPLES),
        ("macs=nan", AMOUNT.format("macs", "nan"), EXAMPLES),
        ("macs=-0.5", AMOUNT.format("macs", "-0.5"), EXAMPLES),
        ("macs=0", AMOUNT.format("macs", "0"), EXAMPLES),
        ("macs=0M", AMOUNT.format("macs", "0M"), EXAMPLES),
        ("macs=50%", AMOUNT.format("macs", "50%"), "write the share: macs=0.5"),
        (
            "params=2B",
            AMOUNT.format("params", "2B"),
            "the suffixes are K, M and G: 10M is 10,000,000",
        ),
        (
            "macs=1.5",
            AMOUNT.format("macs", "1.5"),
            "an amount above 1 is a count; a share is at most 1",
        ),
        ("macs=0.5=0.4", AMOUNT.format("macs", "0.5=0.4"), EXAMPLES),
    ],
)
def test_every_bad_form_is_named(text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_target(text)
    assert (str(caught.value), caught.value.hint) == (message, hint)
