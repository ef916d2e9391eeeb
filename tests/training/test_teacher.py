"""Which models have something to teach."""

import pytest
import torch
from torch import nn

from ramda_cli.config.schema import DataConfig, ModelConfig
from ramda_cli.models.loading import load_model
from ramda_cli.pipeline.loading import load_data
from ramda_cli.tasks import EMBEDDING, IMAGE_CLASSIFICATION, REGRESSION
from ramda_cli.training.teacher import can_teach
from tests.training.problems import CPU, digits, net


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, object]:
    loaded = load_model(ModelConfig(name="digits-resnet"))
    return loaded.module, load_data(DataConfig(name="digits", workers=0), loaded, seed=0).val


def test_a_trained_model_teaches(trained) -> None:
    model, val = trained
    assert can_teach(model, IMAGE_CLASSIFICATION, val, device=CPU)
    assert not model.training


def test_random_weights_do_not() -> None:
    data = digits()
    for seed in range(3):
        assert not can_teach(net(seed), IMAGE_CLASSIFICATION, data.val, device=CPU)


def test_a_model_of_other_classes_does_not(trained) -> None:
    model, val = trained
    others = [(inputs, (targets + 1) % 10) for inputs, targets in val]
    assert not can_teach(model, IMAGE_CLASSIFICATION, others, device=CPU)


def test_where_there_are_no_classes_nobody_does() -> None:
    batches = [(torch.zeros(2, 3), torch.zeros(2))]
    for task in (REGRESSION, EMBEDDING):
        assert not can_teach(nn.Linear(3, 1), task, batches, device=CPU)
