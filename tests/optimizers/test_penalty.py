"""Which entries belong to which channel, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from ramda_cli.optimizers import RAMDA, Penalty, penalties
from ramda_cli.optimizers.penalty import lay_out
from ramda_cli.regularizers import GroupLasso
from ramda_cli.structure import DependencyGroup, ParameterSlice, Structure
from tests.optimizers.problems import channel_values, group, groups, parameters, penalized

LASSO = GroupLasso(0.1)


def test_sizes_and_weights_follow_the_channels():
    layout = lay_out(penalized(0.5, 0.25), parameters())
    sizes = [
        len(channel_values(parameters(), each, channel))
        for each in groups()
        for channel in range(each.channels)
    ]
    assert layout.sizes.tolist() == sizes
    assert layout.weights.tolist() == [0.5] * 3 + [0.25] * 2
    assert layout.penalty_of_channel.tolist() == [0, 0, 0, 1, 1]


def test_owners_of_irregular_positions():
    layout = lay_out(penalized(), parameters())
    owners = {part.name: part.owner.tolist() for part in layout.parameters}
    assert owners["gate.weight"] == [1, 3, 4, 2, 4, 3, 0]
    assert owners["head.weight"] == [0] * 4 + [1] * 4 + [2] * 4 + [4, 3]
    assert owners["norm.weight"] == [1, 2, 0]


def test_only_groups_with_penalized_slices_are_penalized():
    bare = DependencyGroup("bare", 3, (), ())
    made = penalties(Structure((bare, *groups())), LASSO)
    assert [each.group.name for each in made] == ["trunk", "side"]
    assert all(each.regularizer is LASSO for each in made)


@pytest.mark.parametrize(
    ("slices", "accepted"),
    [
        pytest.param([("w", 0, [0, 1]), ("w", 0, [2, 3])], True, id="next to each other"),
        pytest.param([("w", 0, [0, 2]), ("w", 0, [3, 1])], True, id="interleaved"),
        pytest.param([("w", 0, [0, 1]), ("v", 1, [0, 1])], True, id="different parameters"),
        pytest.param([("w", 0, [0, 1]), ("w", 0, [1, 2])], False, id="overlapping"),
        pytest.param([("w", 0, [0, 1]), ("w", 1, [2, 3])], False, id="crossing dimensions"),
        pytest.param([("w", 0, [0, 0])], False, id="twice in one slice"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_no_entry_is_penalized_twice(
    slices: list[tuple[str, int, list[int]]], accepted: bool, together: bool
):
    named = {"w": nn.Parameter(torch.ones(4, 4)), "v": nn.Parameter(torch.ones(4, 4))}
    joined = [group("all", 2, *slices)] if together else [group(str(s), 2, s) for s in slices]
    if accepted:
        Structure(tuple(joined))
        RAMDA(named.items(), [Penalty(each, LASSO) for each in joined])
    else:
        with pytest.raises(ValueError, match=r"^w is penalized twice$"):
            Structure(tuple(joined))
        with pytest.raises(ValueError, match=r"^w is penalized twice$"):
            RAMDA(named.items(), [Penalty(each, LASSO) for each in joined])


def _slice(parameter: str, dim: int, indices: list[list[int]]) -> ParameterSlice:
    return ParameterSlice(parameter, dim, np.array(indices, dtype=np.int64))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (_slice("other", 0, [[0], [1]]), "other, which is not among the parameters"),
        (_slice("w", 2, [[0], [1]]), r"w along dim 2, but its shape is \(4, 4\)"),
        (_slice("w", 0, [[0], [4]]), "w outside of dim 0, whose size is 4"),
        (_slice("w", 0, [[-1], [0]]), "w outside of dim 0, whose size is 4"),
        (_slice("w", 0, [[0], [1], [2]]), "w in 3 channels, but has 2"),
    ],
)
def test_a_slice_must_fit_its_parameter(part: ParameterSlice, message: str):
    penalty = Penalty(DependencyGroup("g", 2, (part,), (part,)), LASSO)
    with pytest.raises(ValueError, match=f"dependency group g penalizes {message}"):
        lay_out([penalty], {"w": torch.ones(4, 4)})


def test_every_channel_must_have_entries():
    empty = Penalty(group("g", 2, ("w", 0, [[], []])), LASSO)
    message = "dependency group g has a channel without penalized entries"
    with pytest.raises(ValueError, match=message):
        lay_out([empty], {"w": torch.ones(4, 4)})
