import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ramda_cli.config.schema import TargetConfig
from ramda_cli.structure.widths import Widths, multiples
from ramda_cli.training import Budget, plan_budget
from ramda_cli.training.blocks import Blocks
from ramda_cli.training.device_budget import DeviceBudget
from tests.training.test_budget import cost_of, kept_of, scores_of

CPU = torch.device("cpu")


def widths_of(channels: list[int], multiple: int, family: list[int]) -> Widths:
    sizes = np.array(channels)
    return multiples(sizes, np.full_like(sizes, multiple), np.array(family))


def blocks_by_hand(widths: Widths, scores: np.ndarray) -> dict[int, tuple[float, set[int]]]:
    """Return score and channels of every block, by its number."""
    starts = np.cumsum(widths.channels) - widths.channels
    found: dict[tuple[int, int], list[int]] = {}
    for start, size, multiple, family in zip(
        starts, widths.channels, widths.multiple, widths.family, strict=True
    ):
        order = list(start + np.argsort(scores[start : start + size], kind="stable"))
        step = 0
        while order:
            cut = len(order) % multiple or multiple
            found.setdefault((int(family), step), []).extend(order[:cut])
            order, step = order[cut:], step + 1
    worth: dict[tuple[int, int], float] = {}
    for family, step in sorted(found):
        mean = float(np.mean(scores[found[family, step]]))
        worth[family, step] = max(mean, worth.get((family, step - 1), -np.inf))
    return {i: (worth[key], set(found[key])) for i, key in enumerate(sorted(found))}


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    multiple=st.integers(1, 9),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    ties=st.booleans(),
    infinite=st.booleans(),
)
def test_blocks_are_those_found_by_hand(
    seed: int, multiple: int, sizes: list[int], ties: bool, infinite: bool
) -> None:
    # The last size is there twice, in one family.
    widths = widths_of([*sizes, sizes[-1]], multiple, [*range(len(sizes)), len(sizes) - 1])
    generator = np.random.default_rng(seed)
    scores = generator.random(int(widths.channels.sum()))
    scores = np.round(scores, 1) if ties else scores
    if infinite:
        scores[generator.integers(scores.size)] = np.inf
    worth, number = Blocks(widths, CPU)(torch.from_numpy(scores))
    expected = blocks_by_hand(widths, scores)
    groups = [set(np.flatnonzero(number.numpy() == n)) for n in np.unique(number.numpy())]
    assert groups == [channels for _, channels in expected.values()]
    for value, channels in expected.values():
        np.testing.assert_allclose(worth.numpy()[sorted(channels)], value, rtol=1e-12)


def budget_of(
    share: float, multiple: int, *, family: list[int] | None = None, metric: str = "macs"
) -> Budget:
    cost = cost_of(24, 32, 32)
    widths = widths_of([24, 32, 32], multiple, family or [0, 1, 2])
    target = TargetConfig.model_validate({metric: share})
    return plan_budget(cost, target, floor=0.1, widths=widths)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("multiple", [1, 5, 8])
@pytest.mark.parametrize("family", [[0, 1, 2], [0, 1, 1]])
@pytest.mark.parametrize("exact", [False, True])
def test_a_budget_is_met_with_allowed_widths(
    seed: int, multiple: int, family: list[int], exact: bool
) -> None:
    budget = budget_of(0.5, multiple, family=family)
    zero = budget.choose(scores_of(budget, seed), budget.counts, exact=exact)
    kept = kept_of(budget, zero).astype(int)
    assert budget.of(zero) <= budget.counts
    assert (budget.widths.at_least(kept) == kept).all()
    if exact:
        prefix = budget.choose(scores_of(budget, seed), budget.counts)
        assert budget.of(prefix) <= budget.of(zero)


def test_the_least_needed_block_goes_first() -> None:
    budget = budget_of(0.95, 8)
    scores = np.full(88, 5.0)
    scores[24:56] = np.linspace(1.0, 2.0, 32)
    scores[24 + 31] = 0.0
    zero = budget.choose(scores, budget.counts)
    # One block of the second group: its new least channel with the seven next ones.
    assert np.flatnonzero(zero).tolist() == [*range(24, 31), 55]


def test_the_floor_is_an_allowed_width() -> None:
    assert budget_of(0.5, 8).floor.tolist() == [8, 8, 8]
    assert budget_of(0.99, 31).floor.tolist() == [24, 31, 31]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    share=st.floats(0.2, 1.0),
    family=st.sampled_from([[0, 1, 2], [0, 1, 1]]),
    multiple=st.sampled_from([1, 4, 8]),
)
def test_the_device_takes_what_the_host_does_but_for_a_part_of_the_last_block(
    seed: int, share: float, family: list[int], multiple: int
) -> None:
    budget = budget_of(0.5, multiple, family=family)
    scores = np.round(np.random.default_rng(seed).random(88), 2)
    count = np.round(share * budget.dense).astype(np.int64)
    on_host = budget.choose(scores, count)
    chosen = DeviceBudget(budget, CPU).choose(torch.from_numpy(scores), torch.from_numpy(count))
    on_device = chosen.numpy()
    assert not (on_device & ~on_host).any()
    _, number = Blocks(budget.widths, CPU)(torch.from_numpy(scores))
    assert len(np.unique(number.numpy()[on_host & ~on_device])) <= 1
