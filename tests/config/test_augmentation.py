import pytest

from ramda_cli.config.loading import load_config
from ramda_cli.errors import ConfigError

BASE = {"model.name": "m", "data.name": "d", "target": "macs=0.5"}


@pytest.mark.parametrize(
    "policy",
    [
        "auto",
        "none",
        "rand",
        "rand-m9-mstd0.5-inc1",
        "rand-m6-n3-p0.5-mmax20-mstd101-tweights",
        "v0r",
        "original-mstd0.5",
        "3a",
        "augmix-m3-w3-d2-a0.5-b1-mstd1",
    ],
)
def test_policies_in_timms_notation_are_taken(policy: str) -> None:
    assert load_config(None, BASE, [f"data.augment={policy}"]).data.augment == policy


@pytest.mark.parametrize(
    "policy",
    [
        "automatic",
        "random",
        "rand-m9-",
        "rand-m9.5",
        "rand-n0",
        "rand-p1.5",
        "rand-mstdinf",  # timm would ignore it
        "rand-w0",
        "rand-tfoo",
        "original-m9",
        "augmix-w0",
        "augmix-a0",
        "auto-mstd1",
        "rand-m9\n",
    ],
)
def test_a_policy_that_timm_would_ignore_or_fail_at_is_refused(policy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, {**BASE, "data.augment": policy}, ())
    assert str(caught.value) == (
        "data.augment must be auto, none or a policy of timm such as rand-m9-mstd0.5-inc1,"
        f" got {policy!r}"
    )
    assert caught.value.hint == "the default is 'auto'"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            "data.random_erasing=1.5",
            "data.random_erasing must be a number in [0, 1], got 1.5",
        ),
        ("training.mixup=-0.2", "training.mixup must be a number of at least 0, got -0.2"),
        ("training.cutmix=-1", "training.cutmix must be a number of at least 0, got -1"),
    ],
)
def test_ranges_of_erasing_and_mixing(item: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, BASE, [item])
    assert str(caught.value) == message
