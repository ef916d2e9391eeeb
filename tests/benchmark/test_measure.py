"""Small models, measured for real: every figure follows from the others."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from ramda_cli.benchmark import Plan, Runtime, measure
from ramda_cli.errors import BenchError
from ramda_cli.observer import SilentObserver

CPU = torch.device("cpu")
IMAGES = (torch.randn(2, 3, 8, 8),)


def net(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(36 * width, 5)
    ).eval()


def plan(*runtimes: Runtime, batch_sizes: Sequence[int] = (1, 16), device: str = "cpu") -> Plan:
    where = torch.device(device)
    return Plan(where, runtimes or ("eager",), tuple(batch_sizes), threads=1, seconds=0.2)


class Stages(SilentObserver):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def stage(self, name: str, detail: str = "") -> None:
        self.seen.append(f"{name}: {detail}")


def test_a_wider_model_is_slower_in_torch_and_in_onnx_runtime():
    observer = Stages()
    measured = measure(net(256), net(4), IMAGES, plan("eager", "onnx"), observer)
    assert [(m.runtime, m.batch_size) for m in measured] == [
        ("eager", 1), ("eager", 16), ("onnx", 1), ("onnx", 16),
    ]  # fmt: skip
    for each in measured:
        assert each.dense is not None
        assert each.speedup is not None
        assert each.rounds >= 6
        for timing in (each.dense, each.pruned):
            assert 0 < timing.median_ms <= timing.p90_ms
            per_second = 1e3 * each.batch_size / timing.median_ms
            assert timing.inputs_per_second == pytest.approx(per_second)
            assert timing.peak_bytes is None
        assert each.speedup.low <= each.speedup.median <= each.speedup.high
    # 64 times the work; other work on the machine does not hide it.
    assert all(m.speedup is not None and m.speedup.low > 1 for m in measured if m.batch_size > 1)
    assert observer.seen == [
        "bench: eager, preparing", "bench: eager at batch 1", "bench: eager at batch 16",
        "bench: onnx, preparing", "bench: onnx at batch 1", "bench: onnx at batch 16",
    ]  # fmt: skip


def test_a_model_alone_has_no_ratio():
    (alone,) = measure(None, net(4), IMAGES, plan(batch_sizes=[2]), SilentObserver())
    assert alone.dense is None
    assert alone.speedup is None
    assert alone.pruned.median_ms > 0


def test_models_and_threads_are_left_as_they_are():
    dense, pruned = net(8), net(4)
    before = [t.clone() for t in dense.state_dict().values()]
    threads = torch.get_num_threads()
    measure(dense, pruned, IMAGES, plan("eager", "onnx", batch_sizes=[3]), SilentObserver())
    after = [*dense.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.requires_grad and not p.is_inference() for p in dense.parameters())
    assert torch.get_num_threads() == threads


def test_named_inputs_are_passed_by_name():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, *, x: Tensor, shift: Tensor) -> dict[str, Tensor]:
            return {"y": self.fc(x) + shift}

    inputs = {"x": torch.randn(2, 3), "shift": torch.zeros(2, 1)}
    measured = measure(None, Named().eval(), inputs, plan("eager", "onnx"), SilentObserver())
    assert len(measured) == 4


def test_another_model_is_not_taken_for_the_dense_one():
    other = nn.Sequential(nn.Flatten(), nn.Linear(192, 7)).eval()
    with pytest.raises(BenchError) as caught:
        measure(other, net(4), IMAGES, plan(), SilentObserver())
    assert str(caught.value) == (
        "the dense model gives outputs of shape [(2, 7)], the pruned one [(2, 5)]"
    )


def test_a_model_that_cannot_run_is_named():
    class OnlyTwo(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(2, 192)

    model = OnlyTwo().eval()
    assert measure(None, model, IMAGES, plan(batch_sizes=[2]), SilentObserver())
    with pytest.raises(BenchError, match=r"^OnlyTwo cannot be run in eager at batch 3: shape"):
        measure(None, model, IMAGES, plan(batch_sizes=[3]), SilentObserver())


def test_what_onnx_lacks_is_said_with_a_way_out():
    class Bessel(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(x)

    with pytest.raises(BenchError, match=r"^the model cannot be measured in ONNX Runtime: ") as e:
        measure(None, Bessel().eval(), IMAGES, plan("onnx"), SilentObserver())
    assert e.value.hint == "leave that out with --runtime eager"


def test_every_batch_size_is_compiled():
    # As many programs of one model as torch keeps; a further one would silently run uncompiled.
    few = torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True)
    models = nn.Linear(192, 64).eval(), nn.Linear(192, 64).eval()
    with few:
        rows = (torch.randn(2, 192),)
        measured = measure(*models, rows, plan("compile", batch_sizes=[1, 2, 3]), SilentObserver())
    assert [m.batch_size for m in measured] == [1, 2, 3]


@pytest.mark.gpu
def test_memory_is_that_of_one_model():
    on_gpu = plan(batch_sizes=[64], device="cuda")
    dense, pruned = net(256), net(4)
    (measured,) = measure(dense, pruned, IMAGES, on_gpu, SilentObserver())
    for timing, model in ((measured.dense, dense), (measured.pruned, pruned)):
        weights = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
        assert timing is not None
        assert timing.peak_bytes is not None
        assert weights < timing.peak_bytes < weights + 100_000_000
    assert next(dense.parameters()).device.type == "cpu"
