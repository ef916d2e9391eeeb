import operator

import pytest
import torch

from ramda_cli.structure.float64 import float64_throughout
from ramda_cli.surgery import GraphModel, GraphProgram
from ramda_cli.surgery.program import Operation, Reference, drop_unused, references

_aten = torch.ops.aten
X, Y, W = (Reference(name) for name in "xyw")


def program(**changes: object) -> GraphProgram:
    operations = (
        Operation("double", _aten.mul.Tensor, (X, 2)),
        Operation("unused", _aten.neg.default, (Reference("double"),)),
        Operation("sum", _aten.add.Tensor, (Reference("double"), W)),
    )
    settings: dict[str, object] = {
        "inputs": ("x",),
        "tensors": {"w": "part.weight"},
        "operations": operations,
        "output": {"sum": Reference("sum"), "both": [X, Reference("double")]},
    }
    return GraphProgram(**{**settings, **changes})  # type: ignore[arg-type]


def model(**changes: object) -> GraphModel:
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    return GraphModel(program(**changes), {"part.weight": weight}, {})


def test_a_program_runs_and_returns_its_nested_output() -> None:
    result = model()(torch.tensor([3.0, 4.0]))
    assert result["sum"].tolist() == [7.0, 10.0]
    assert [t.tolist() for t in result["both"]] == [[3.0, 4.0], [6.0, 8.0]]


def test_parameters_keep_their_names_and_train() -> None:
    small = model()
    assert [name for name, _ in small.named_parameters()] == ["part.weight"]
    small(torch.ones(2))["sum"].sum().backward()
    assert small.part.weight.grad.tolist() == [1.0, 1.0]


def test_the_number_of_inputs_is_checked() -> None:
    with pytest.raises(TypeError, match="the model takes 1 inputs, got 2"):
        model()(torch.ones(2), torch.ones(2))
    with pytest.raises(TypeError, match="the model takes 1 inputs, got 0"):
        model()()


def test_keywords_are_told_apart_by_name() -> None:
    operations = (Operation("difference", _aten.sub.Tensor, (X, Y)),)
    small = model(
        inputs=("x", "y"), operations=operations, tensors={}, keywords=("one", "other"),
        output=Reference("difference"),
    )  # fmt: skip
    one, other = torch.tensor([5.0]), torch.tensor([3.0])
    assert small(other=other, one=one).item() == 2.0
    assert small(one, other=other).item() == 2.0
    assert small(one, other).item() == 2.0
    with pytest.raises(TypeError, match=r"the model takes keywords \['one', 'other'\], got"):
        small(one, third=other)
    with pytest.raises(TypeError, match="the model takes 2 inputs, got 1"):
        small(other=other)


def test_unused_operations_are_dropped_in_order() -> None:
    whole = program()
    kept = drop_unused(whole.operations, whole.output)
    assert [operation.name for operation in kept] == ["double", "sum"]


def test_references_are_found_in_nested_arguments() -> None:
    assert references([X, {"a": (Y, [W, 3])}, None]) == ["x", "y", "w"]


def test_results_are_forgotten_after_their_last_use() -> None:
    small = model(output=Reference("sum"))
    assert [set(names) for names in small._last_uses] == [{"x"}, {"unused"}, {"double", "w"}]


def test_a_float64_copy_computes_in_float64() -> None:
    operations = (
        Operation("ones", _aten.full.default, ([2], 1 / 3), {"dtype": torch.float32}),
        Operation("sum", _aten.add.Tensor, (Reference("ones"), W)),
    )
    small = model(operations=operations, output=Reference("sum"))
    assert small(torch.ones(2)).dtype == torch.float32
    with float64_throughout():
        wide = small.double()(torch.ones(2, dtype=torch.float64))
    assert wide.dtype == torch.float64
    assert wide[0].item() == 1 + 1 / 3


def test_numbers_can_be_computed() -> None:
    operations = (
        Operation("size", _aten.sym_size.int, (X, 0)),
        Operation("half", operator.floordiv, (Reference("size"), 2)),
        Operation("part", _aten.slice.Tensor, (X, 0, 0, Reference("half"))),
    )
    small = model(operations=operations, tensors={}, output=Reference("part"))
    assert small(torch.arange(6.0)).tolist() == [0.0, 1.0, 2.0]
