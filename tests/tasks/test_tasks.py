"""Losses and metrics against their definitions, written out."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ramda_cli.tasks import (
    EMBEDDING,
    FILL_MASK,
    IGNORED,
    IMAGE_CLASSIFICATION,
    LANGUAGE_MODELING,
    MASKED_IMAGE_MODELING,
    REGRESSION,
    TEXT2TEXT_GENERATION,
    TEXT_GENERATION,
    TOKEN_CLASSIFICATION,
    call,
    counted,
)
from ramda_cli.tasks.inputs import batch_size, in_parts, moved, split_inputs, tensors_of


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LOGITS = draws(2, 4, 5)
TARGETS = torch.tensor([[0, 3, IGNORED, 1], [IGNORED, 4, 2, IGNORED]])
KEPT = [(0, 0), (0, 1), (0, 3), (1, 1), (1, 2)]


def test_a_loss_is_the_mean_over_what_counts() -> None:
    each = [-LOGITS[at].log_softmax(0)[TARGETS[at]] for at in KEPT]
    for task in (TOKEN_CLASSIFICATION, TEXT_GENERATION, FILL_MASK, TEXT2TEXT_GENERATION):
        loss = task.loss(LOGITS, TARGETS)
        assert float(loss) == pytest.approx(float(torch.stack(each).mean()), rel=1e-6)


def test_what_counts_is_counted() -> None:
    assert int(counted(torch.tensor([3, 0, 7]))) == 3
    assert int(counted(TARGETS)) == len(KEPT)
    assert int(counted(torch.full((2, 4), IGNORED))) == 0
    frames = draws(2, 3, 5)
    frames[1, 1:] = torch.nan
    assert int(counted(frames)) == 4 * 5


def test_the_loss_with_a_memory_is_the_mean_over_words_that_are_there() -> None:
    said = -LOGITS.exp().mean(2)
    loss = LANGUAGE_MODELING.loss(said, TARGETS)
    assert float(loss) == pytest.approx(-sum(float(said[at]) for at in KEPT) / len(KEPT), rel=1e-6)
    meter = LANGUAGE_MODELING.meter()
    meter.update(said, TARGETS)
    assert meter.value() == pytest.approx(math.exp(loss), rel=1e-6)
    assert float(LANGUAGE_MODELING.loss(said, torch.full((2, 4), IGNORED))) == 0


def test_a_divergence_is_the_mean_over_what_counts() -> None:
    taught, temperature = draws(2, 4, 5, seed=1), 3.0
    p, q = ((x / temperature).softmax(-1) for x in (LOGITS, taught))
    each = torch.stack([(q[at] * (q[at] / p[at]).log()).sum() for at in KEPT])
    found = TEXT_GENERATION.divergence(LOGITS, taught, TARGETS, temperature=temperature)
    assert float(found) == pytest.approx(float(9 * each.mean()), rel=1e-5)


def test_soft_targets_and_smoothing() -> None:
    logits, soft = draws(6, 3), draws(6, 3, seed=2).softmax(1)
    loss = IMAGE_CLASSIFICATION.loss(logits, soft)
    assert float(loss) == pytest.approx(float(-(soft * logits.log_softmax(1)).sum(1).mean()))
    hard = torch.tensor([0, 1, 2, 0, 1, 2])
    smooth = 0.9 * F.one_hot(hard, 3) + 0.1 / 3
    assert float(IMAGE_CLASSIFICATION.loss(logits, hard, smoothing=0.1)) == pytest.approx(
        float(-(smooth * logits.log_softmax(1)).sum(1).mean())
    )


def test_accuracy_over_batches() -> None:
    meter = IMAGE_CLASSIFICATION.meter()
    meter.update(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    meter.update(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert meter.value() == pytest.approx(2 / 3)


def test_perplexity_is_that_of_all_tokens_together() -> None:
    meter = TEXT_GENERATION.meter()
    meter.update(LOGITS[:1], TARGETS[:1])
    meter.update(LOGITS[1:], TARGETS[1:])
    assert meter.value() == pytest.approx(math.exp(float(TEXT_GENERATION.loss(LOGITS, TARGETS))))
    wild = TEXT_GENERATION.meter()
    wild.update(torch.tensor([[[0.0, 1e6]]]), torch.tensor([[0]]))
    assert math.isfinite(wild.value())


def test_f1_is_the_mean_over_the_classes() -> None:
    meter = TOKEN_CLASSIFICATION.meter()
    true, said = [0, 0, 1, 1, 1, 2], [0, 1, 1, 1, 0, 2]
    logits = F.one_hot(torch.tensor([said]), 3).float()
    meter.update(logits, torch.tensor([true]))

    def f1(kind: int) -> float:
        hits = sum(t == s == kind for t, s in zip(true, said, strict=True))
        return 2 * hits / (true.count(kind) + said.count(kind))

    assert meter.value() == pytest.approx(np.mean([f1(0), f1(1), f1(2)]))


def test_the_rank_correlation_of_ranks() -> None:
    meter = REGRESSION.meter()
    meter.update(torch.tensor([1.0, 2.0]), torch.tensor([10.0, 30.0]))
    meter.update(torch.tensor([3.0]), torch.tensor([20.0]))
    assert meter.value() == pytest.approx(0.5)
    constant = REGRESSION.meter()
    constant.update(torch.ones(3), torch.tensor([1.0, 2.0, 3.0]))
    assert constant.value() == 0.0
    assert float(REGRESSION.loss(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))) == 2.0


def test_an_embedding_is_the_mean_over_the_tokens_there_are() -> None:
    states = draws(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    found = EMBEDDING.read((states,), {"input_ids": mask, "attention_mask": mask})
    torch.testing.assert_close(found[0], states[0, :2].mean(0))
    torch.testing.assert_close(found[1], states[1].mean(0))
    assert float(EMBEDDING.loss(found, 2 * found)) == pytest.approx(0.0, abs=1e-6)
    meter = EMBEDDING.meter()
    meter.update(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[2.0, 0.0], [1.0, -1.0]]))
    assert meter.value() == pytest.approx(0.5)


def test_painting_is_measured_at_the_hidden_pixels_alone() -> None:
    task = MASKED_IMAGE_MODELING
    painted, taught = draws(2, 3, 4, 4), draws(2, 3, 4, 4, seed=2)
    images, seen = draws(2, 3, 4, 4, seed=1), torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    seen[0, :, :2], seen[1, :, :, 3] = True, True
    hidden = ~seen.expand_as(images)
    targets = images.masked_fill(~hidden, math.nan)
    expected = float((painted.double() - images.double())[hidden].abs().mean())
    inputs = painted.clone().requires_grad_()
    loss = task.loss(inputs, targets)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    sign = (painted - images).sign() / hidden.sum()
    torch.testing.assert_close(inputs.grad, torch.where(hidden, sign, torch.zeros(())))
    found = float(task.divergence(painted, taught, targets, temperature=4.0))
    assert found == pytest.approx(float((painted - taught)[hidden].abs().mean()), rel=1e-6)
    meter = task.meter()
    meter.update(painted[:1], targets[:1])
    meter.update(painted[1:], targets[1:])
    assert meter.value() == pytest.approx(expected, rel=1e-12)
    nothing = torch.full_like(targets, math.nan)
    assert float(task.loss(painted, nothing)) == 0.0


def test_painted_images_come_after_a_loss_of_the_models_own() -> None:
    images = draws(2, 3, 4, 4)
    outputs = {"loss": torch.tensor(1.0), "reconstruction": images, "attentions": draws(2, 1, 5, 5)}
    assert torch.equal(MASKED_IMAGE_MODELING.read(outputs, {}), images)
    assert torch.equal(MASKED_IMAGE_MODELING.read([torch.tensor(1.0), images], {}), images)


@pytest.mark.parametrize(
    "meter",
    [IMAGE_CLASSIFICATION, TOKEN_CLASSIFICATION, TEXT_GENERATION, MASKED_IMAGE_MODELING],
)
def test_a_metric_of_nothing_is_not_defined(meter) -> None:
    assert math.isnan(meter.meter().value())


class Named(nn.Module):
    def forward(self, a: torch.Tensor, flag: bool = False, b: torch.Tensor | None = None):
        assert flag
        return {"logits": a + (0 if b is None else b), "other": a}


def test_a_model_is_called_by_name() -> None:
    inputs = {"a": torch.ones(3, 2, dtype=torch.float16), "flag": True}
    outputs = call(IMAGE_CLASSIFICATION, Named(), inputs)
    assert outputs.dtype == torch.float32
    assert batch_size(inputs) == 3
    assert [batch_size(part) for part in in_parts(inputs, 2)] == [2, 1]
    assert all(part["flag"] is True for part in in_parts(inputs, 2))
    assert split_inputs(torch.ones(1))[0][0].shape == (1,)
    assert len(tensors_of(moved(inputs, torch.device("cpu")))) == 1
