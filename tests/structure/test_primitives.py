"""The primitives on label arrays, checked by a union-find of their own."""

import numpy as np
import pytest

from ramda_cli.structure.concatenation import concatenate
from ramda_cli.structure.labels import Couplings, Layer, Slot, Value, along, trim
from ramda_cli.structure.primitives import contract, expand, join, mix, reshape, take


def classes(couplings: Couplings) -> list[int]:
    """Return the smallest label of every label's class."""
    root = list(range(couplings.size))
    for _ in range(couplings.size + 1):
        for one, other in couplings.edges:
            for a, b in zip(one.tolist(), other.tolist(), strict=True):
                root[a] = root[b] = min(root[a], root[b])
    return root


def fixed(couplings: Couplings) -> set[int]:
    """Return the labels whose class must stay."""
    root = classes(couplings)
    held = {root[label] for fix in couplings.fixes for label in fix.labels.tolist()}
    return {label for label in range(couplings.size) if root[label] in held}


def labels_of(value: Value) -> list[list[int]]:
    return [layer.labels.ravel().tolist() for layer in value.layers]


def grid(couplings: Couplings, *shape: int) -> Value:
    """Return a value with one label for every element."""
    labels = couplings.fresh(int(np.prod(shape))).reshape(shape)
    return Value(shape, (Layer(labels),))


def test_mix_leaves_the_other_dimensions_as_the_unit() -> None:
    couplings = Couplings()
    layer = grid(couplings, 2, 3).layers[0]
    mixed = mix(couplings, layer, [1], "why")
    assert mixed is not None
    assert mixed.labels.shape == (2, 1)
    assert classes(couplings) == [0, 0, 0, 3, 3, 3]
    assert fixed(couplings) == set()


def test_mix_of_all_dimensions_fixes() -> None:
    couplings = Couplings()
    layer = grid(couplings, 2, 3).layers[0]
    assert mix(couplings, layer, [0, 1], "the reason") is None
    assert fixed(couplings) == set(range(6))
    assert couplings.fixes[0].reason == "the reason"


def test_mix_of_other_dimensions_does_nothing() -> None:
    couplings = Couplings()
    layer = Layer(along(couplings.fresh(3), 1, 2))
    assert mix(couplings, layer, [0], "why") is layer
    assert (couplings.edges, couplings.fixes) == ([], [])


def test_join_couples_equal_supports_and_broadcasts() -> None:
    couplings = Couplings()
    a = Value((2, 3), (Layer(along(couplings.fresh(3), 1, 2)),))
    b = Value((3,), (Layer(couplings.fresh(3)),))
    joined = join(couplings, [a, b], "drop")
    assert joined.shape == (2, 3)
    assert classes(couplings) == [0, 1, 2, 0, 1, 2]
    assert fixed(couplings) == set()


def test_join_with_an_unlabelled_dimension_mixes_over_it() -> None:
    couplings = Couplings()
    heads = grid(couplings, 2, 3)
    join(couplings, [heads, Value((3,))], "drop")
    assert classes(couplings) == [0, 0, 0, 3, 3, 3]
    assert fixed(couplings) == set()
    join(couplings, [heads, Value((2, 3))], "drop")
    assert fixed(couplings) == set(range(6))


def test_join_takes_the_leading_dimension_as_the_unit() -> None:
    couplings = Couplings()
    heads = grid(couplings, 2, 3)
    inside = Value((3,), (Layer(couplings.fresh(3)),))
    joined = join(couplings, [heads, inside], "drop")
    assert fixed(couplings) == {6, 7, 8}
    assert labels_of(joined) == [[0, 1, 2, 3, 4, 5]]


def test_what_meets_a_held_dimension_takes_its_reason() -> None:
    couplings = Couplings()
    held = couplings.fixed_value((3,), "the width of something")
    free = Value((3,), (Layer(couplings.fresh(3)),))
    joined = join(couplings, [free, held], "drop")
    assert joined.layers == ()
    assert [layer.labels.tolist() for layer in joined.held] == [[0, 1, 2]]
    assert {fix.reason for fix in couplings.fixes} == {"the width of something"}
    assert fixed(couplings) == set(range(6))


@pytest.mark.parametrize(
    ("zero", "both", "one"),
    [("product", ("w",), ("w",)), ("sum", ("x", "w"), ()), ("drop", (), ())],
)
def test_join_knows_when_its_result_is_zero(
    zero: str, both: tuple[str, ...], one: tuple[str, ...]
) -> None:
    couplings = Couplings()
    origin = {name: (Slot(name, 0),) for name in "xw"}
    w = Value((3,), (Layer(couplings.fresh(3), origin["w"]),), from_parameters=True)
    for x_origin, expected in ((origin["x"], both), ((), one)):
        x = Value((3,), (Layer(couplings.fresh(3), x_origin),))
        (layer,) = join(couplings, [x, w], zero).layers  # type: ignore[arg-type]
        assert tuple(slot.parameter for slot in layer.origin) == expected


def test_contract_consumes_what_it_sums_with_a_weight() -> None:
    couplings = Couplings()
    x = Value((2, 3), (Layer(along(couplings.fresh(3), 1, 2)),))
    weight = couplings.fresh_value((4, 3), parameter="w")
    y = contract(couplings, [(x, "bi"), (weight, "oi")], "bo", "why")
    assert (y.shape, labels_of(y)) == ((2, 4), [[3, 4, 5, 6]])
    (consumption,) = couplings.consumptions
    labels, slots = consumption.labels, consumption.readers
    assert slots == (Slot("w", 1),)
    assert {classes(couplings)[label] for label in labels.tolist()} == {0, 1, 2}
    assert fixed(couplings) == set()


def test_contract_fixes_what_it_sums_without_a_weight() -> None:
    couplings = Couplings()
    q, k = (Value((2, 3), (Layer(along(couplings.fresh(3), 1, 2)),)) for _ in range(2))
    contract(couplings, [(q, "td"), (k, "sd")], "ts", "why")
    assert fixed(couplings) == set(range(6))


def test_contract_makes_the_head_the_unit() -> None:
    couplings = Couplings()
    q = Value((5, 2, 3), (Layer(couplings.fresh(6).reshape(1, 2, 3)),))
    k = Value((5, 2, 3), (Layer(couplings.fresh(6).reshape(1, 2, 3)),))
    scores = contract(couplings, [(q, "thd"), (k, "shd")], "hts", "why")
    assert scores.shape == (2, 5, 5)
    assert classes(couplings) == [0, 0, 0, 3, 3, 3, 0, 0, 0, 3, 3, 3]
    assert fixed(couplings) == set()


def test_reshape_splits_merges_and_leaves_the_rest_alone() -> None:
    couplings = Couplings()
    value = Value((2, 6, 5), (Layer(along(couplings.fresh(6), 1, 3)),))
    split = reshape(couplings, value, (2, 3, 2, 5))
    assert split.layers[0].labels.shape == (1, 3, 2, 1)
    merged = reshape(couplings, split, (2, 6, 5))
    assert labels_of(merged) == labels_of(value)
    flat = reshape(couplings, value, (2, 30))
    assert labels_of(flat)[0][:11] == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2]
    batched = reshape(couplings, value, (12, 5))
    assert labels_of(batched) == [[0, 1, 2, 3, 4, 5] * 2]
    assert (couplings.edges, couplings.fixes) == ([], [])


def test_reshape_that_merges_two_channel_dimensions_fixes_one() -> None:
    couplings = Couplings()
    value = couplings.fresh_value((2, 3))
    reshape(couplings, value, (6,))
    assert fixed(couplings) == {2, 3, 4}


def test_reshape_with_dimensions_of_one() -> None:
    couplings = Couplings()
    value = Value((1, 4, 1), (Layer(along(couplings.fresh(4), 1, 3)),))
    assert reshape(couplings, value, (4, 1, 1, 1)).layers[0].labels.shape == (4, 1, 1, 1)


def test_take_indexes_labels() -> None:
    couplings = Couplings()
    value = Value((4,), (Layer(couplings.fresh(4)),))
    assert labels_of(take(couplings, value, (2,), lambda labels: labels[1:3])) == [[1, 2]]
    assert take(couplings, value, (1,), lambda labels: labels[3:]).layers == ()
    assert fixed(couplings) == {3}


def test_expand_gives_new_extents_virtual_labels() -> None:
    couplings = Couplings()
    value = Value((1, 2), (Layer(along(couplings.fresh(2), 1, 2)),))
    assert labels_of(expand(couplings, value, (3, 2))) == [[0, 1], [2, 3, 4]]


def test_concatenate_keeps_operands_apart_and_joins_the_other_dimensions() -> None:
    couplings = Couplings()
    a, b = couplings.fresh_value((2, 3)), couplings.fresh_value((2, 4))
    value = concatenate(couplings, [a, b], 1)
    assert value.shape == (2, 7)
    assert [2, 3, 4, 7, 8, 9, 10] in labels_of(value)
    assert classes(couplings)[5:7] == [0, 1]
    assert fixed(couplings) == set()


def test_concatenate_with_a_constant_leaves_a_gap() -> None:
    couplings = Couplings()
    a = Value((3,), (Layer(couplings.fresh(3)),))
    value = concatenate(couplings, [Value((2,)), a], 0)
    assert labels_of(value) == [[-1, -1, 0, 1, 2]]
    join(couplings, [value, Value((5,), (Layer(couplings.fresh(5)),))], "drop")
    assert fixed(couplings) == {3, 4}  # joined with the constant elements


def test_concatenated_supports_collapse_to_what_they_share() -> None:
    couplings = Couplings()
    heads = Value((2, 3), (Layer(along(couplings.fresh(2), 0, 2)),))
    value = concatenate(couplings, [heads, grid(couplings, 2, 3)], 1)
    assert value.shape == (2, 6)
    assert fixed(couplings) == set()
    root = classes(couplings)
    assert root[2:] == [root[2]] * 3 + [root[5]] * 3


def test_trim_drops_dimensions_that_do_not_vary() -> None:
    assert trim(np.array([[0, 1], [0, 1]])).shape == (1, 2)
    assert trim(np.array([[0, 0], [1, 1]])).shape == (2, 1)
    assert trim(np.array([[0, 1], [1, 0]])).shape == (2, 2)


def test_couple_ignores_what_is_the_same_already() -> None:
    couplings = Couplings()
    labels = couplings.fresh(3)
    couplings.couple(labels, labels)
    assert couplings.edges == []
