"""The budget on a device against the one on the host."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ramda_cli.config.schema import TargetConfig
from ramda_cli.training import Budget, plan_budget
from ramda_cli.training.device_budget import DeviceBudget
from tests.training.test_budget import cost_of, planned

BUDGETS = {
    (metric, widths): planned(cost_of(*widths), metric, 0.5)
    for metric in ("channels", "macs", "params")
    for widths in ((24, 32, 24), (3, 5, 200))
}
SEVERAL = plan_budget(
    cost_of(24, 32, 24),
    TargetConfig(macs=0.5, params=0.4, channels=0.9, size_mb=0.6),
    floor=0.1,
)


@settings(max_examples=150, deadline=None)
@given(
    budget=st.sampled_from([*BUDGETS.values(), SEVERAL]),
    seed=st.integers(0, 2**20),
    share=st.floats(0.0, 1.0),
    stay=st.floats(0.0, 1.0),
    ties=st.booleans(),
)
def test_chooses_what_the_host_would(
    budget: Budget, seed: int, share: float, stay: float, ties: bool
) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.random(int(budget.cost.channels.sum()))
    if ties:
        scores = np.round(scores, 1)
    scores[generator.random(scores.size) < stay] = np.inf
    counts = np.round(share * budget.dense).astype(np.int64)
    on_device = DeviceBudget(budget, torch.device("cpu"))
    zero = on_device.choose(torch.from_numpy(scores), torch.from_numpy(counts))
    assert np.array_equal(zero.numpy(), budget.choose(scores, counts))


@pytest.mark.parametrize("metric", ["channels", "macs", "params"])
def test_the_formula_is_the_measure(metric: str) -> None:
    budget = BUDGETS[metric, (24, 32, 24)]
    on_device = DeviceBudget(budget, torch.device("cpu"))
    kept = torch.tensor([[24.0, 32.0, 24.0], [1.0, 7.0, 3.0]], dtype=torch.float64)
    expected = [budget.cost.measure(metric, counts) for counts in kept.numpy()]
    assert on_device._cost(kept).tolist() == [expected]
