import pytest
import torch
from torch import nn

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.training.objective import Objective

IMAGES = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


def linear(seed: int) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(5, 4)


def test_without_a_teacher_it_is_the_cross_entropy() -> None:
    model = linear(0)
    objective = Objective(linear(1), TrainingConfig(label_smoothing=0.1))
    expected = nn.CrossEntropyLoss(label_smoothing=0.1)(model(IMAGES), LABELS)
    assert torch.equal(objective(model, IMAGES, LABELS), expected)


@pytest.mark.parametrize("distill", [0.0, 0.4])
def test_class_probabilities_are_targets_too(distill: float) -> None:
    objective = Objective(linear(1), TrainingConfig(label_smoothing=0.1, distill=distill))
    model, one_hot = linear(0), nn.functional.one_hot(LABELS, 4).float()
    loss = objective(model, IMAGES, one_hot)
    assert torch.allclose(loss, objective(model, IMAGES, LABELS))
    # The cross-entropy is linear in its targets.
    mixed = objective(model, IMAGES, 0.7 * one_hot + 0.3 * one_hot.flip(0))
    flipped = objective(model, IMAGES, LABELS.flip(0))
    assert torch.allclose(mixed, 0.7 * loss + 0.3 * flipped)


@pytest.mark.parametrize("weight", [0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_divergence_is_that_of_the_formula(weight: float, temperature: float) -> None:
    dense, model = linear(1), linear(0)
    config = TrainingConfig(distill=weight, temperature=temperature)
    loss = Objective(dense, config)(model, IMAGES, LABELS)
    p = torch.softmax(model(IMAGES).double() / temperature, 1)
    q = torch.softmax(dense(IMAGES).double() / temperature, 1)
    divergence = (q * (q / p).log()).sum(1).mean()
    entropy = nn.CrossEntropyLoss()(model(IMAGES).double(), LABELS)
    expected = (1 - weight) * entropy + weight * temperature**2 * divergence
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_the_teacher_is_the_model_before_training_in_evaluation_mode() -> None:
    model = nn.Sequential(nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 4)).train()
    objective = Objective(model, TrainingConfig(distill=1.0))
    first = objective(model.eval(), IMAGES, LABELS)
    assert float(first) == pytest.approx(0.0, abs=1e-6)
    with torch.no_grad():
        model[2].weight.mul_(3.0)
    loss = objective(model, IMAGES, LABELS)
    assert float(loss) > 0.01
    loss.backward()
    assert model[2].weight.grad is not None
