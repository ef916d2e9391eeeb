import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ramda_cli.structure.running import outputs_of
from ramda_cli.verification import Check, Proof, compare, verify


class Mixed(nn.Module):
    """Takes a tensor and ids, by position or name; gives several outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)
        self.norm = nn.BatchNorm1d(4)
        self.ids = nn.Embedding(7, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor, ids: Tensor) -> dict[str, Any]:
        y = self.drop(self.norm(self.fc(x)) + self.ids(ids))
        return {"logits": y, "parts": (y > 0, ids + 1)}


@pytest.fixture
def model() -> Mixed:
    torch.manual_seed(0)
    return Mixed()


def example(batch: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "x": torch.randn(batch, 6, generator=generator),
        "ids": torch.randint(7, (batch,), generator=generator),
    }


@pytest.mark.parametrize("form", [dict, lambda inputs: tuple(inputs.values())])
def test_equal_models_pass(model: Mixed, form: Any) -> None:
    proof = verify(model, copy.deepcopy(model), form(example()))
    assert proof.passed
    assert proof.max_abs_difference == 0.0
    assert [check.dtype for check in proof.checks] == ["float64", "float32"]
    # The example and two probes.
    assert [check.inputs for check in proof.checks] == [9, 9]
    assert proof.tolerance == pytest.approx(1e-9 * proof.checks[0].scale)
    assert proof.checks[1].tolerance == pytest.approx(1e-4 * proof.checks[1].scale)


def test_several_batches_are_all_compared(model: Mixed) -> None:
    proof = verify(model, copy.deepcopy(model), [example(2), example(5)])
    assert proof.checks[0].inputs == 2 + 5 + 2 * 2


def test_a_relative_change_of_one_millionth_fails_in_float64_alone(model: Mixed) -> None:
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.fc.weight *= 1 + 1e-6
    proof = verify(model, changed, example())
    assert [check.passed for check in proof.checks] == [False, True]
    assert not proof.passed
    assert 1e-8 < proof.checks[0].relative_difference < 1e-5


def test_a_change_that_only_a_probe_sees_fails() -> None:
    model = nn.Linear(4, 2).eval()
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.weight[:, 3] += 1
    blind = torch.tensor([[1.0, 2.0, 3.0, 0.0]])
    assert not verify(model, changed, blind).passed


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("both", [False, True])
def test_what_is_not_finite_fails(model: Mixed, value: float, both: bool) -> None:
    changed = copy.deepcopy(model)
    for one in (model, changed)[0 if both else 1 :]:
        with torch.no_grad():
            one.fc.bias[2] = value
    proof = verify(model, changed, example())
    assert not proof.passed
    assert not proof.checks[0].passed


class Shaped(nn.Module):
    def __init__(self, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.shapes = shapes

    def forward(self, x: Tensor) -> list[Tensor]:
        return [torch.zeros(len(x), *shape) for shape in self.shapes]


@pytest.mark.parametrize(
    "other", [Shaped((3,)), Shaped((2, 1)), Shaped((2,), (2,)), Shaped()], ids=repr
)
def test_other_shapes_fail(other: nn.Module) -> None:
    assert verify(Shaped((2,)), Shaped((2,)), torch.zeros(2, 1)).passed
    assert not verify(Shaped((2,)), other, torch.zeros(2, 1)).passed


def test_another_shape_in_a_later_batch_fails() -> None:
    def ours(batch: Tensor) -> list[Tensor]:
        return [batch]

    def theirs(batch: Tensor) -> list[Tensor]:
        return [batch] if len(batch) == 2 else [batch.T]

    batches = [torch.ones(2, 3), torch.ones(4, 3)]
    assert compare("a", ours, ours, batches, dtype="f", relative_tolerance=1.0).passed
    check = compare("a", ours, theirs, batches, dtype="f", relative_tolerance=1.0)
    assert math.isnan(check.max_abs_difference)
    assert not check.passed


def test_models_without_an_output_are_not_equal() -> None:
    assert not verify(Shaped(), Shaped(), torch.zeros(2, 1)).passed


def test_nothing_compared_is_not_a_proof() -> None:
    check = compare("a", lambda _: [], lambda _: [], [], dtype="float64", relative_tolerance=1.0)
    assert math.isnan(check.max_abs_difference)
    assert not check.passed
    assert not Proof(()).passed


def test_models_are_left_alone(model: Mixed) -> None:
    model.half()
    model.train()
    model.norm.eval()
    smaller = copy.deepcopy(model)
    states = [copy.deepcopy(one.state_dict()) for one in (model, smaller)]
    random_state = torch.get_rng_state()
    proof = verify(model, smaller, {**example(), "x": example()["x"].half()})
    assert proof.passed
    assert proof.checks[1].dtype == "float16"
    for one, state in zip((model, smaller), states, strict=True):
        assert one.training
        assert one.drop.training
        assert not one.norm.training
        assert all(torch.equal(tensor, state[k]) for k, tensor in one.state_dict().items())
        assert {t.dtype for t in one.parameters()} == {torch.float16}
        assert all(p.requires_grad and p.grad is None for p in one.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_outputs_come_in_order_and_evaluation_mode(model: Mixed) -> None:
    outputs = outputs_of(model.train(), example())
    assert [tuple(t.shape) for t in outputs] == [(3, 4), (3, 4), (3,)]
    assert all(
        torch.equal(*pair) for pair in zip(outputs, outputs_of(model, example()), strict=True)
    )
    assert not outputs[0].requires_grad


def test_a_check_passes_up_to_its_tolerance() -> None:
    check = Check("a", "float64", 1, 2e-9, 2.0, 1e-9)
    assert check.passed
    assert check.relative_difference == 1e-9
    assert not dataclasses.replace(check, max_abs_difference=2.01e-9).passed
    nothing = dataclasses.replace(check, max_abs_difference=0.0, scale=0.0)
    assert nothing.passed
    assert nothing.relative_difference == 0.0
