import numpy as np
import pytest
from torch import nn

from ramda_cli.structure import (
    DependencyGroup,
    ParameterSlice,
    Structure,
    input_channel_structure,
)
from ramda_cli.structure.groups import check_disjoint, crossing_parameter


def group(name: str, parameter: str, dim: int, indices: list[list[int]]) -> DependencyGroup:
    part = ParameterSlice(parameter, dim, np.array(indices, dtype=np.int64))
    return DependencyGroup(name, len(indices), (part,), (part,))


def test_groups_that_share_no_entry_are_accepted() -> None:
    one = group("a", "w", 1, [[0], [1]])
    other = group("b", "w", 1, [[2], [3]])
    check_disjoint([one, other])
    assert Structure((one, other)).group("b") is other
    with pytest.raises(KeyError):
        Structure((one, other)).group("c")


@pytest.mark.parametrize("other", [group("b", "w", 1, [[1], [2]]), group("b", "w", 0, [[5], [6]])])
def test_an_entry_is_penalized_once(other: DependencyGroup) -> None:
    one = group("a", "w", 1, [[0], [1]])
    assert crossing_parameter([*one.penalized, *other.penalized]) == "w"
    with pytest.raises(ValueError, match="w is penalized twice"):
        check_disjoint([one, other])
    with pytest.raises(ValueError, match="w is penalized twice"):
        Structure((one, other))


def test_the_papers_groups_are_the_input_channels_of_each_weight() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.Linear(5, 4),
        nn.LSTM(6, 7), nn.Embedding(9, 9), nn.Linear(1, 2),
    )  # fmt: skip
    groups = {g.name: g for g in input_channel_structure(model).groups}
    assert {name: g.channels for name, g in groups.items()} == {
        "0.weight": 3, "3.weight": 5, "4.weight_ih_l0": 6, "4.weight_hh_l0": 7,
    }  # fmt: skip
    (part,) = groups["0.weight"].penalized
    assert (part.parameter, part.dim, part.block) == ("0.weight", 1, 1)
    assert part.indices.tolist() == [[0], [1], [2]]


def test_the_papers_groups_of_a_bare_layer() -> None:
    assert [g.name for g in input_channel_structure(nn.Linear(3, 2)).groups] == ["weight"]
