"""The loss of speech against its definition, written out."""

import math

import pytest
import torch

from ramda_cli.tasks import TEXT_TO_SPEECH, call
from ramda_cli.tasks.inputs import tensors_of


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


BEFORE, AFTER, STOPS = draws(2, 3, 4), draws(2, 3, 4, seed=1), draws(2, 3, seed=2)
MELS = draws(2, 3, 4, seed=3)
KEPT = [(0, 0), (0, 1), (0, 2), (1, 0)]
LAST = [(0, 2), (1, 0)]


def targets() -> torch.Tensor:
    aims = torch.full((2, 3, 5), torch.nan)
    for at in KEPT:
        aims[at] = torch.cat([MELS[at], torch.tensor([float(at in LAST)])])
    return aims


def losses() -> list[float]:
    found = []
    for at in KEPT:
        squares = ((BEFORE[at] - MELS[at]) ** 2).mean() + ((AFTER[at] - MELS[at]) ** 2).mean()
        chance = 1 / (1 + math.exp(-float(STOPS[at])))
        found.append(float(squares) - math.log(chance if at in LAST else 1 - chance))
    return found


def outputs() -> torch.Tensor:
    return TEXT_TO_SPEECH.read((BEFORE, AFTER, STOPS, draws(2, 3, 6)), ())


def test_a_loss_is_the_mean_over_frames_that_are_no_padding() -> None:
    loss = TEXT_TO_SPEECH.loss(outputs(), targets())
    assert float(loss) == pytest.approx(sum(losses()) / len(KEPT), rel=1e-5)


def test_padding_has_no_gradient() -> None:
    made = outputs().requires_grad_()
    TEXT_TO_SPEECH.loss(made, targets()).backward()
    assert made.grad is not None
    assert bool(torch.isfinite(made.grad).all())
    assert {tuple(at) for at in made.grad.abs().sum(dim=2).nonzero().tolist()} == set(KEPT)


def test_the_metric_is_the_loss_over_all_frames_of_all_batches() -> None:
    meter = TEXT_TO_SPEECH.meter()
    assert math.isnan(meter.value())
    for row in range(2):
        meter.update(outputs()[row : row + 1], targets()[row : row + 1])
    assert meter.value() == pytest.approx(sum(losses()) / len(KEPT), rel=1e-5)
    assert not TEXT_TO_SPEECH.metric.higher_is_better
    assert not TEXT_TO_SPEECH.metric.is_share


def test_a_teacher_is_followed_in_its_frames() -> None:
    taught = TEXT_TO_SPEECH.read((MELS, AFTER, -STOPS), ())
    found = TEXT_TO_SPEECH.divergence(outputs(), taught, targets(), temperature=4.0)
    expected = sum(float(((BEFORE[at] - MELS[at]) ** 2).mean()) for at in KEPT) / len(KEPT)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert float(TEXT_TO_SPEECH.divergence(taught, taught, targets(), temperature=4.0)) == 0.0


def test_a_model_is_called_with_text_and_frames() -> None:
    class Echo(torch.nn.Module):
        def forward(self, text: torch.Tensor, mels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return mels, 2 * mels, mels[..., 0]

    made = call(TEXT_TO_SPEECH, Echo(), (torch.ones(2, 6, dtype=torch.int64), MELS))
    assert made.shape == (2, 3, 9)
    assert torch.equal(made, torch.cat([MELS, 2 * MELS, MELS[..., :1]], dim=2))
    assert len(tensors_of(made)) == 1
