"""What a training loop asks of RAMDA: resume, precision, param_groups, absent gradients, stages."""

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ramda_cli.optimizers import RAMDA, Penalty
from ramda_cli.regularizers import GroupLasso
from tests.optimizers.problems import group, groups, parameters, penalized, set_gradients

Named = dict[str, nn.Parameter]


def _train(optimizer: RAMDA, named: Named, steps: range) -> None:
    for step in steps:
        set_gradients(named, step)
        optimizer.step()


def _through_a_file(state: dict[str, object]) -> dict[str, object]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)  # noqa: TID251  (our own bytes)


@pytest.mark.parametrize("save", [copy.deepcopy, _through_a_file])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_resume_is_bit_equal(dtype: torch.dtype, save: Callable):  # type: ignore[type-arg]
    straight = parameters(dtype)
    optimizer = RAMDA(straight.items(), penalized(0.3, 0.2), lr=0.1, momentum=0.2)
    _train(optimizer, straight, range(6))
    saved = save(optimizer.state_dict())
    resumed = {name: nn.Parameter(p.detach().clone()) for name, p in straight.items()}
    _train(optimizer, straight, range(6, 12))

    again = RAMDA(resumed.items(), penalized(0.3, 0.2), lr=0.5, momentum=0.5)
    again.load_state_dict(saved)
    _train(again, resumed, range(6, 12))
    for name in straight:
        assert torch.equal(straight[name], resumed[name])
    assert torch.equal(optimizer.solution_zero, again.solution_zero)
    assert optimizer.certificate == again.certificate
    for mine, theirs in zip(optimizer.state.values(), again.state.values(), strict=True):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
        assert all(mine[key].dtype == theirs[key].dtype for key in mine)


def test_a_loaded_state_is_not_shared():
    named = parameters(torch.float32)
    optimizer = RAMDA(named.items(), penalized(), lr=0.1)
    _train(optimizer, named, range(2))
    other = RAMDA(parameters(torch.float32).items(), penalized(), lr=0.1)
    other.load_state_dict(optimizer.state_dict())
    before = [s["grad_sum"].clone() for s in other.state.values()]
    _train(optimizer, named, range(2, 4))
    assert all(map(torch.equal, before, (s["grad_sum"] for s in other.state.values())))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_parameters_follow_an_fp32_master(dtype: torch.dtype):
    low = parameters(dtype)
    full = {name: nn.Parameter(p.detach().float()) for name, p in low.items()}
    of_low = RAMDA(low.items(), penalized(0.1, 0.1), lr=0.1, momentum=0.01)
    of_full = RAMDA(full.items(), penalized(0.1, 0.1), lr=0.1, momentum=0.01)
    for step in range(30):
        set_gradients(low, step)
        for name, parameter in full.items():
            parameter.grad = low[name].grad.float()
        of_low.step()
        of_full.step()
    for name in low:
        assert low[name].dtype == dtype
        assert torch.equal(low[name], full[name].to(dtype))
    start = parameters(dtype)
    assert all(not torch.equal(start[name], low[name]) for name in low)


def test_the_state_takes_three_tensors_per_parameter():
    named = parameters(torch.float32)
    optimizer = RAMDA(named.items(), penalized(), lr=0.1)
    _train(optimizer, named, range(1))
    sizes = [sum(x.nbytes for x in optimizer.state[p].values()) for p in named.values()]
    channels = sum(each.channels for each in groups())
    assert sum(sizes) == sum(12 * p.numel() for p in named.values()) + 8 * channels


def test_settings_follow_a_scheduler():
    named = parameters(torch.float64)
    twin = parameters(torch.float64)
    optimizer = RAMDA(named.items(), penalized(), lr=0.1, momentum=0.3, eps=1e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 - t / 4)
    by_hand = RAMDA(twin.items(), penalized(), lr=0.1, momentum=0.3, eps=1e-3)
    for step in range(4):
        by_hand.param_groups[0]["lr"] = 0.1 * (1 - step / 4)
        _train(optimizer, named, range(step, step + 1))
        _train(by_hand, twin, range(step, step + 1))
        scheduler.step()
    assert all(torch.equal(named[name], twin[name]) for name in named)
    assert optimizer.param_groups[0]["lr"] == 0.0
    assert optimizer.param_groups[0]["step_size_sum"] == pytest.approx(
        sum(0.1 * (1 - t / 4) * (t + 1) ** 0.5 for t in range(4))
    )


def test_a_step_size_of_zero_moves_nothing():
    named = parameters(torch.float32)
    before = {name: p.detach().clone() for name, p in named.items()}
    optimizer = RAMDA(named.items(), penalized(), momentum=1.0)
    optimizer.param_groups[0]["lr"] = 0.0
    _train(optimizer, named, range(3))
    assert all(torch.equal(before[name], named[name]) for name in named)


def test_settings_of_param_groups_hold_for_their_parameters():
    named, alone = parameters(), parameters()
    split = [
        {"params": [("free.weight", named["free.weight"])], "lr": 0.5, "momentum": 0.9},
        {"params": [(k, p) for k, p in named.items() if k != "free.weight"], "lr": 0.1},
    ]
    optimizer = RAMDA(split, penalized(), momentum=0.2)
    other = RAMDA(alone.items(), penalized(), lr=0.1, momentum=0.2)
    free = RAMDA([("free.weight", nn.Parameter(named["free.weight"].detach().clone()))], lr=0.5)
    free.param_groups[0]["momentum"] = 0.9
    for step in range(5):
        set_gradients(named, step)
        for name, parameter in alone.items():
            parameter.grad = named[name].grad.clone()
        free.param_groups[0]["params"][0].grad = named["free.weight"].grad.clone()
        for each in (optimizer, other, free):
            each.step()
    for name in alone:
        expected = free.param_groups[0]["params"][0] if name == "free.weight" else alone[name]
        assert torch.equal(named[name], expected)


@pytest.mark.parametrize("lrs", [(0.1, 0.3), (0.3, 0.1)])
def test_another_lr_for_a_member_is_another_metric(lrs: tuple[float, float]):
    named = {name: nn.Parameter(torch.ones(4, 3).double()) for name in ("a", "b")}
    penalty = Penalty(group("g", 3, ("a", 1, [0, 1, 2]), ("b", 1, [0, 1, 2])), GroupLasso(0.1))
    split = [{"params": [(n, named[n])], "lr": lr} for n, lr in zip(named, lrs, strict=True)]
    optimizer = RAMDA(split, [penalty], momentum=1.0, eps=1e-3)
    set_gradients(named, 0)
    optimizer.step()
    for channel in range(3):
        p = torch.cat([named[name][:, channel].detach() for name in named])
        gradients = []
        for parameter, lr in zip(named.values(), lrs, strict=True):
            g = parameter.grad[:, channel]
            d = (lr * g**2) ** (1 / 3) + 1e-3
            gradients.append(g + d / lr * (parameter[:, channel].detach() - 1.0))
        # Stationarity of ⟨g, x⟩ + ‖x-x₀‖²_(D/α) / 2 + λ √n ‖x‖ over both members.
        left = torch.cat(gradients) + 0.1 * 8**0.5 * p / p.norm()
        torch.testing.assert_close(left, torch.zeros_like(left), rtol=0.0, atol=1e-7)


def test_parameters_can_be_added():
    named = parameters(torch.float32)
    late = nn.Parameter(torch.ones(3))
    optimizer = RAMDA(named.items(), penalized(), lr=0.1, momentum=1.0)
    _train(optimizer, named, range(3))
    optimizer.add_param_group({"params": [("late", late)], "lr": 0.2})
    late.grad = torch.tensor([1.0, -1.0, 0.0])
    optimizer.step()
    # The first step of the new group, with its own α.
    expected = 1 - 0.2 * late.grad / ((0.2 * late.grad**2) ** (1 / 3) + 1e-6)
    torch.testing.assert_close(late.detach(), expected)
    with pytest.raises(ValueError, match="RAMDA needs named parameters"):
        RAMDA([nn.Parameter(torch.ones(2))])  # type: ignore[list-item]


def test_a_penalty_with_an_absent_gradient_is_left_alone():
    named = parameters(torch.float32)
    optimizer = RAMDA(named.items(), penalized(0.3, 0.2), lr=0.1, momentum=1.0)
    _train(optimizer, named, range(3))
    before = {name: p.detach().clone() for name, p in named.items()}
    zero_before = optimizer.solution_zero
    set_gradients(named, 3, scale=2.0)
    named["norm.weight"].grad = None  # a member of the trunk
    optimizer.step()
    for name in ("norm.weight", "conv.weight"):
        assert torch.equal(named[name], before[name])
    trunk_gate, side_gate = [6, 0, 3], [5, 1, 2, 4]
    assert torch.equal(named["gate.weight"][:, trunk_gate], before["gate.weight"][:, trunk_gate])
    assert not torch.equal(named["gate.weight"][:, side_gate], before["gate.weight"][:, side_gate])
    assert torch.equal(named["head.weight"][:, :12], before["head.weight"][:, :12])
    assert not torch.equal(named["free.weight"], before["free.weight"])
    assert torch.equal(optimizer.solution_zero[:3], zero_before[:3])


def test_frozen_and_unused_parameters_never_move():
    named = parameters(torch.float32)
    before = {name: p.detach().clone() for name, p in named.items()}
    optimizer = RAMDA(named.items(), penalized(1e3, 1e3), momentum=1.0)
    optimizer.step()
    assert all(torch.equal(named[name], before[name]) for name in named)
    for name in ("conv.weight", "gate.weight"):
        named[name].grad = torch.ones_like(named[name])
    optimizer.step()  # each penalty lacks a member
    assert torch.equal(named["conv.weight"], before["conv.weight"])
    assert not optimizer.solution_zero.any()
    assert optimizer.certificate == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_snap_makes_zero_channels_of_the_solution_exactly_zero(dtype: torch.dtype):
    named = parameters(dtype)
    optimizer = RAMDA(named.items(), penalized(1e3, 1e-9), lr=0.1, momentum=0.1)
    _train(optimizer, named, range(4))
    assert optimizer.solution_zero.tolist() == [True] * 3 + [False] * 2
    assert (named["conv.weight"] != 0).all()
    side = named["gate.weight"][:, [5, 1, 2, 4]].detach().clone()
    optimizer.snap_()
    for part in groups()[0].penalized:
        owned = named[part.parameter].index_select(part.dim, torch.tensor(part.indices.ravel()))
        assert (owned == 0).all()
    assert torch.equal(named["gate.weight"][:, [5, 1, 2, 4]], side)
    assert (named["free.weight"] != 0).all()
    zero = 135 + 4 * 12 + 3 + 6 * 3
    assert optimizer.weighted_group_sparsity().item() == pytest.approx(zero / (zero + 24 + 8))
    if dtype == torch.bfloat16:
        assert (optimizer.state[named["conv.weight"]]["master"] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_restart_begins_again_at_the_current_weights(dtype: torch.dtype):
    named = parameters(dtype)
    optimizer = RAMDA(named.items(), penalized(), lr=0.1, momentum=0.3)
    _train(optimizer, named, range(4))
    zero = optimizer.solution_zero
    optimizer.restart()
    assert optimizer.param_groups[0]["step"] == 0
    assert torch.equal(optimizer.solution_zero, zero)
    masters = {n: optimizer.state[p].get("master", p).detach().clone() for n, p in named.items()}
    fresh = {name: nn.Parameter(x) for name, x in masters.items()}
    other = RAMDA(fresh.items(), penalized(), lr=0.1, momentum=0.3)
    set_gradients(named, 9)
    for name, parameter in fresh.items():
        parameter.grad = named[name].grad.float()
    optimizer.step()
    other.step()
    for name in named:
        torch.testing.assert_close(named[name], fresh[name].to(dtype), rtol=2e-6, atol=1e-7)


def test_restart_and_snap_before_any_step_do_nothing():
    named = parameters(torch.float32)
    before = {name: p.detach().clone() for name, p in named.items()}
    optimizer = RAMDA(named.items(), penalized())
    optimizer.restart()
    optimizer.snap_()
    assert optimizer.solution_zero.tolist() == [False] * 5
    assert all(torch.equal(named[name], before[name]) for name in named)


def test_channels_last_parameters_take_the_same_steps():
    straight, other = parameters(), parameters()
    weight = other["conv.weight"]
    weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    optimizers = [
        RAMDA(each.items(), penalized(), lr=0.1, momentum=1.0) for each in (straight, other)
    ]
    for step in range(4):
        for named, optimizer in zip((straight, other), optimizers, strict=True):
            _train(optimizer, named, range(step, step + 1))
    for name in straight:
        torch.testing.assert_close(straight[name], other[name], rtol=1e-12, atol=1e-12)


def test_a_loaded_state_may_have_another_memory_format():
    named, twin = parameters(), parameters()
    twin["conv.weight"].data = twin["conv.weight"].data.contiguous(
        memory_format=torch.channels_last
    )
    optimizer = RAMDA(named.items(), penalized(), lr=0.1, momentum=1.0)
    of_twin = RAMDA(twin.items(), penalized(), lr=0.1, momentum=1.0)
    _train(optimizer, named, range(2))
    _train(of_twin, twin, range(2))
    optimizer.load_state_dict(of_twin.state_dict())
    _train(optimizer, named, range(2, 4))
    _train(of_twin, twin, range(2, 4))
    for name in named:
        torch.testing.assert_close(named[name], twin[name], rtol=1e-12, atol=1e-12)


def test_the_closure_runs_with_gradients():
    weight = nn.Parameter(torch.ones(3))
    optimizer = RAMDA([("weight", weight)], lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 3.0
    assert (weight < 1).all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"lr": 0.0}, r"lr must be > 0, got 0\.0"),
        ({"momentum": 0.0}, r"momentum must be in \(0, 1\], got 0\.0"),
        ({"momentum": 1.5}, r"momentum must be in \(0, 1\], got 1\.5"),
        ({"eps": 0.0}, r"eps must be > 0, got 0\.0"),
    ],
)
def test_bad_settings_are_rejected(setting: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        RAMDA(parameters().items(), **setting)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        RAMDA([{"params": [*parameters().items()], **setting}])
