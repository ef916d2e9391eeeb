"""What only a GPU can show: no synchronisation, capture in a graph, the same result every time."""

import pytest
import torch
from torch import nn

from ramda_cli.optimizers import RAMDA
from tests.optimizers.problems import parameters, penalized, set_gradients

pytestmark = pytest.mark.gpu
DEVICE = torch.device("cuda")

Named = dict[str, nn.Parameter]


def _on_device(dtype: torch.dtype = torch.float32) -> Named:
    return {k: nn.Parameter(p.detach().to(DEVICE)) for k, p in parameters(dtype).items()}


def _set_gradients(named: Named, seed: int) -> None:
    host = parameters(torch.float32)
    set_gradients(host, seed)
    for name, parameter in named.items():
        gradient = host[name].grad.to(DEVICE, parameter.dtype)
        parameter.grad = gradient if parameter.grad is None else parameter.grad.copy_(gradient)


def test_a_step_does_not_synchronise():
    named = _on_device()
    optimizer = RAMDA(named.items(), penalized(0.1, 0.1), lr=0.1, fused=True)
    for step in range(3):
        _set_gradients(named, step)
        torch.cuda.set_sync_debug_mode("default" if step == 0 else "error")
        try:
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_a_graph_replays_steps_with_a_schedule():
    eager, replayed = _on_device(), _on_device()
    lr = torch.tensor(0.1, device=DEVICE)
    plain = RAMDA(eager.items(), penalized(0.1, 0.1), lr=0.1, momentum=0.3, fused=True)
    captured = RAMDA(
        replayed.items(), penalized(0.1, 0.1), lr=lr, momentum=0.3, fused=True, capturable=True
    )
    for step in range(3):
        for named, optimizer in ((eager, plain), (replayed, captured)):
            _set_gradients(named, step)
            optimizer.step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.step()
    for step in range(3, 12):
        rate = 0.1 * (1 - step / 20)
        plain.param_groups[0]["lr"] = rate
        lr.fill_(rate)
        _set_gradients(eager, step)
        _set_gradients(replayed, step)
        plain.step()
        graph.replay()
        for name in eager:
            torch.testing.assert_close(eager[name], replayed[name], rtol=1e-5, atol=1e-6)
        assert torch.equal(plain.solution_zero, captured.solution_zero)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_steps_are_the_same_every_time(dtype: torch.dtype):
    ends = []
    for _ in range(3):
        named = _on_device(dtype)
        optimizer = RAMDA(named.items(), penalized(0.1, 0.1), lr=0.1, fused=True)
        for step in range(10):
            _set_gradients(named, step)
            optimizer.step()
        ends.append([p.detach().clone() for p in named.values()])
    assert all(torch.equal(a, b) for end in ends[1:] for a, b in zip(ends[0], end, strict=True))


def test_the_gradient_scaler_is_respected():
    named, scaled = _on_device(), _on_device()
    plain = RAMDA(named.items(), penalized(0.1, 0.1), lr=0.1, fused=True)
    other = RAMDA(scaled.items(), penalized(0.1, 0.1), lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cuda", init_scale=1024.0)
    for step in range(3):
        _set_gradients(named, step)
        _set_gradients(scaled, step)
        scaler.scale(torch.zeros((), device=DEVICE))
        for parameter in scaled.values():
            parameter.grad.mul_(scaler.get_scale())
        plain.step()
        scaler.step(other)
        scaler.update()
    for name in named:
        torch.testing.assert_close(named[name], scaled[name], rtol=1e-6, atol=0.0)
