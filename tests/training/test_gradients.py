"""A step's gradient in parts and in half precision: what it must equal, and what it is told by."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.errors import ConfigError, TrainingError
from ramda_cli.tasks import IGNORED, IMAGE_CLASSIFICATION, TEXT_GENERATION, TEXT_TO_SPEECH, Task
from ramda_cli.training import evaluate
from ramda_cli.training.gradients import Gradients
from ramda_cli.training.mixing import Mixing
from ramda_cli.training.objective import Objective
from ramda_cli.training.processes import ALONE
from tests.texts.models import model as text_model
from tests.training.problems import CPU, Recorder, Speaker, digits, net, run, utterances


class Hungry(nn.Module):
    """A network on a device that holds so many images."""

    def __init__(self, most: int, inner: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = inner or nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        self.most = most
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.fc(x)


def gradients(
    model: nn.Module,
    observer: Recorder | None = None,
    task: Task = IMAGE_CLASSIFICATION,
    **more: Any,
) -> Gradients:
    config = TrainingConfig(**more)
    objective = Objective(model, config, task)
    return Gradients(
        config, objective, Mixing(config, classes=10), accumulate=config.accumulate, device=CPU,
        observer=observer or Recorder(), processes=ALONE,
    )  # fmt: skip


def computed(
    of: Gradients, model: nn.Module, batches: list[tuple[Any, Tensor]]
) -> tuple[Tensor | None, list[Tensor]]:
    """Return the loss and every gradient."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loss = of.compute(model, optimizer, enumerate(batches), 1)
    return loss, [p.grad.clone() for p in model.parameters() if p.grad is not None]


def images(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(count, 1, 8, 8, generator=generator),
        torch.randint(10, (count,), generator=generator),
    )


@pytest.mark.parametrize("settings", [{}, {"mixup": 0.5}, {"accumulate": 2}, {"distill": 0.5}])
@pytest.mark.parametrize("count", [32, 21])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(
    settings: dict[str, Any], count: int
) -> None:
    batches = [images(count)] * settings.get("accumulate", 1)
    whole = Hungry(64)
    loss, expected = computed(gradients(whole, **settings), whole, batches)
    small, recorder = Hungry(64), Recorder()
    of = gradients(small, recorder, auto_batch=True, **settings)
    small.most = 8
    got, found = computed(of, small, batches)
    assert recorder.notes[-1] == f"out of memory on cpu: batches of {count} are computed in 4 parts"
    torch.testing.assert_close(got, loss)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    small.sizes.clear()
    computed(of, small, batches)
    assert max(small.sizes) <= 8, "a batch that did not fit was tried again"


def test_parts_weigh_as_many_targets_as_they_count() -> None:
    torch.manual_seed(0)
    ids = torch.randint(5, 30, (8, 6))
    labels = ids.masked_fill(torch.rand(8, 6) < 0.5, IGNORED)
    labels[:2] = IGNORED  # a part of which nothing counts
    batch = [({"input_ids": ids}, labels)]
    results = []
    for parts in (1, 4):
        model = text_model("LlamaForCausalLM")
        of = gradients(model, task=TEXT_GENERATION, auto_batch=True)
        of.load_state_dict({"parts": parts, "scaler": {}})
        results.append(computed(of, model, batch))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("distill", [0.0, 0.5])
def test_parts_weigh_as_many_frames_as_they_have(distill: float) -> None:
    batch = [utterances((9, 1, 2, 3, 8, 1, 7, 2))]
    results = []
    for parts in (1, 4):
        model = Speaker(0)
        of = gradients(model, task=TEXT_TO_SPEECH, auto_batch=True, distill=distill)
        with torch.no_grad():
            for parameter in model.parameters():  # the dense model's is no longer its own
                parameter.add_(0.1)
        of.load_state_dict({"parts": parts, "scaler": {}})
        results.append(computed(of, model, batch))
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-7)


def test_statistics_are_those_of_the_pass_that_was_taken() -> None:
    small, fitting = Hungry(16, net()), Hungry(16, net())
    computed(gradients(small, auto_batch=True), small, [images(32)])
    of = gradients(fitting, auto_batch=True)
    of.load_state_dict({"parts": 2, "scaler": {}})
    computed(of, fitting, [images(32)])
    torch.testing.assert_close(dict(small.named_buffers()), dict(fitting.named_buffers()))


def test_parts_have_an_end() -> None:
    model = Hungry(1)
    with pytest.raises(TrainingError, match=r"^out of memory on cpu with 2 examples at once$"):
        computed(gradients(model, auto_batch=True), model, [images(16)])


def test_validation_in_parts() -> None:
    data = digits()
    whole, small = Hungry(10_000), Hungry(50)
    expected = evaluate(whole, IMAGE_CLASSIFICATION, data.val, device=CPU)
    assert evaluate(small, IMAGE_CLASSIFICATION, data.val, device=CPU) == expected
    with pytest.raises(torch.OutOfMemoryError):
        evaluate(Hungry(0), IMAGE_CLASSIFICATION, data.val, device=CPU)


def error(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest error of a parameter's gradient, relative to its norm."""
    pairs = [(f, e) for f, e in zip(found, expected, strict=True) if float(e.norm()) > 1e-6]
    return max(float((f - e).norm() / e.norm()) for f, e in pairs)


def test_fp16_is_nearer_to_fp32_than_bf16() -> None:
    found: dict[str, list[Tensor]] = {}
    for precision in ("fp32", "fp16", "bf16"):
        model = net()
        found[precision] = computed(gradients(model, precision=precision), model, [images(64)])[1]
    # Three more bits of the significand.
    assert error(found["fp16"], found["fp32"]) < 0.3 * error(found["bf16"], found["fp32"])


def test_gradients_too_small_for_fp16_do_not_vanish() -> None:
    model, batch = net(), [images(64)]
    with torch.no_grad():
        model.fc.weight.mul_(1e-5)  # by which the gradients of all layers before it are multiplied
    of = gradients(model, precision="fp16")
    (scaled, *_), (expected, *_) = (computed(g, model, batch)[1] for g in (of, gradients(model)))
    assert float((scaled - expected).norm()) <= 0.1 * float(expected.norm())
    of.load_state_dict({"parts": 1, "scaler": of.state_dict()["scaler"] | {"scale": 1.0}})
    (unscaled, *_) = computed(of, model, batch)[1]
    assert float((unscaled - expected).norm()) > 0.5 * float(expected.norm())


def test_a_gradient_that_overflows_is_computed_again() -> None:
    model = net()
    with torch.no_grad():
        model.fc.weight.mul_(30.0)
    of, batch = gradients(model, precision="fp16"), [images(64)]
    of.load_state_dict({"parts": 1, "scaler": of.state_dict()["scaler"] | {"scale": 2.0**40}})
    loss, found = computed(of, model, batch)
    assert loss is not None
    assert of.state_dict()["scaler"]["scale"] < 2.0**40
    _, expected = computed(gradients(model), model, batch)
    assert float((found[-1] - expected[-1]).norm()) <= 1e-2 * float(expected[-1].norm())


def test_what_no_scale_helps_leaves_the_scale() -> None:
    inputs, targets = images(8)
    for bad in (float("nan"), float("inf")):
        model = net()
        of = gradients(model, precision="fp16")
        before = of.state_dict()
        statistics = [model.bn1.running_mean.clone(), model.bn1.running_var.clone()]
        loss, _ = computed(of, model, [(inputs.clone().fill_(bad), targets)])
        assert loss is None
        assert of.state_dict() == before
        torch.testing.assert_close([model.bn1.running_mean, model.bn1.running_var], statistics)


def test_a_run_in_fp16() -> None:
    trained, *_ = run(net(), TrainingConfig(epochs=2, weight=1e-4, lr=1e-2, precision="fp16"))
    assert trained.history[-1].metric > trained.history[0].metric + 0.3
    assert all(epoch.skipped_steps == 0 for epoch in trained.history)


def test_weights_in_fp16_are_refused() -> None:
    with pytest.raises(ConfigError, match="is for weights in fp32"):
        run(net().half(), TrainingConfig(weight=1e-4, precision="fp16"))
