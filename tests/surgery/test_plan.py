import json

import numpy as np
import pytest
from torch import nn

from ramda_cli.structure import discover, identify, zero_
from ramda_cli.surgery import remove
from ramda_cli.surgery.plan import to_ranges
from tests.structure.exactness import Net, inputs, randomize_


@pytest.mark.parametrize(
    ("positions", "ranges"),
    [
        ([], []),
        ([3], [[3, 4]]),
        ([0, 1, 2], [[0, 3]]),
        ([0, 2, 3, 7], [[0, 1], [2, 4], [7, 8]]),
    ],
)
def test_ranges(positions: list[int], ranges: list[list[int]]) -> None:
    assert to_ranges(positions) == ranges
    assert to_ranges(np.array(positions, dtype=np.int64).tolist()) == ranges


def test_the_plan_says_what_went_and_what_is_left() -> None:
    net = randomize_(Net(lambda m, x: m.b(m.a(x).relu()), a=nn.Linear(5, 8), b=nn.Linear(8, 2)))
    structure = discover(net, inputs(2, 5))
    zero_(net, structure, {"a": [0, 4, 5]})
    _, plan = remove(net, structure, identify(net, structure))
    assert json.loads(json.dumps(plan.to_json())) == {
        "removed": {"a": [[0, 1], [4, 6]]},
        "channels": {"a": 8},
        "kept": {
            "a.weight": {"0": [[1, 4], [6, 8]]},
            "a.bias": {"0": [[1, 4], [6, 8]]},
            "b.weight": {"1": [[1, 4], [6, 8]]},
        },
    }
    assert plan.patches == {"a": {"out_features": 5}, "b": {"in_features": 5}}
