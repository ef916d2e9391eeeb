import pytest
import torch
from torch import nn

from ramda_cli.optimizers import RAMDA, Penalty, ProxGen, Threshold, carry_state_, penalties
from ramda_cli.regularizers import GroupLasso
from ramda_cli.structure import Structure, discover, identify, zero_
from ramda_cli.surgery import remove


class Hold:
    """Holds the given channels at zero and shrinks none."""

    def __init__(self, zero: torch.Tensor) -> None:
        self._zero = zero

    def __call__(self, test) -> Threshold:
        return Threshold(self._zero, torch.zeros_like(test.crit))


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 16, 4),
    ).double()


def optimizer_of(kind: str, model: nn.Module, penalized: list[Penalty], rule=None):
    named = model.named_parameters()
    if kind == "ramda":
        return RAMDA(named, penalized, lr=1e-2, momentum=0.1, thresholds=rule)
    return ProxGen(named, penalized, lr=1e-2, weight_decay=1e-2, thresholds=rule)


def step(model: nn.Module, optimizer, number: int) -> None:
    torch.manual_seed(number)
    images = torch.randn(16, 3, 4, 4, dtype=torch.float64)
    labels = torch.randint(4, (16,))
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()


def half_zero(model: nn.Module, structure: Structure) -> torch.Tensor:
    zero_(model, structure, {g.name: range(1, g.channels, 2) for g in structure.groups})
    marks = [torch.arange(group.channels) % 2 == 1 for group in structure.groups]
    return torch.cat(marks)


@pytest.mark.parametrize("kind", ["ramda", "adamw"])
def test_the_smaller_model_takes_the_steps_that_the_dense_one_would(kind: str) -> None:
    model = net()
    structure = discover(model, torch.zeros(2, 3, 4, 4, dtype=torch.float64))
    hold = Hold(half_zero(model, structure))
    dense = optimizer_of(kind, model, penalties(structure, GroupLasso(0.0)), hold)
    for number in range(4):
        step(model, dense, number)

    smaller, plan = remove(model, structure, identify(model, structure))
    carried = optimizer_of(kind, smaller, [])
    carry_state_(carried, dense, plan.kept)
    fresh_model, _ = remove(model, structure, identify(model, structure))
    fresh = optimizer_of(kind, fresh_model, [])
    for number in range(4, 8):
        step(model, dense, number)
        step(smaller, carried, number)
        step(fresh_model, fresh, number)

    images = torch.randn(8, 3, 4, 4, dtype=torch.float64)
    for each in (model, smaller, fresh_model):
        each.eval()
    torch.testing.assert_close(smaller(images), model(images), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(fresh_model(images), model(images), rtol=1e-3, atol=1e-3)


def test_the_state_is_copied_with_its_dtype() -> None:
    model = net().to(torch.bfloat16)
    optimizer = RAMDA(model.named_parameters(), lr=1e-2)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    again = net().to(torch.bfloat16)
    other = RAMDA(again.named_parameters(), lr=1e-2)
    carry_state_(other, optimizer, {})
    for old, new in zip(model.parameters(), again.parameters(), strict=True):
        assert optimizer.state[old].keys() == other.state[new].keys()
        for key, value in optimizer.state[old].items():
            assert other.state[new][key].dtype == torch.float32
            assert other.state[new][key].data_ptr() != value.data_ptr()
    assert other.param_groups[0]["step"] == 1


def test_an_anchor_follows_a_weight_that_was_rescaled() -> None:
    before, after = nn.Linear(2, 3), nn.Linear(2, 3)
    after.load_state_dict(before.state_dict())
    with torch.no_grad():
        after.weight *= 2
    optimizer = RAMDA(before.named_parameters(), lr=1e-2)
    for parameter in before.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    other = RAMDA(after.named_parameters(), lr=1e-2)
    carry_state_(other, optimizer, {})
    torch.testing.assert_close(other.state[after.weight]["anchor"], after.weight.detach())
    torch.testing.assert_close(other.state[after.bias]["anchor"], after.bias.detach())
