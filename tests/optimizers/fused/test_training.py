"""Two hundred steps of real training, by kernels and in torch operations."""

import copy

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from ramda_cli import GroupLasso, discover, penalties
from ramda_cli.config.schema import ModelConfig
from ramda_cli.models.loading import load_model
from ramda_cli.optimizers import RAMDA
from ramda_cli.optimizers.fused import library

pytestmark = pytest.mark.skipif(not library.available(), reason="no C++ compiler")


@pytest.mark.parametrize("momentum", [0.1, pytest.param(1.0, marks=pytest.mark.slow)])
def test_the_same_gradients_lead_to_the_same_weights_and_zeros(momentum: float):
    loaded = load_model(ModelConfig(name="digits-resnet"))
    structure = discover(loaded.module, loaded.example_inputs)
    penalized = penalties(structure, GroupLasso(3e-5))
    model, twin = loaded.module.train(), copy.deepcopy(loaded.module)
    start = {name: float(p.detach().norm()) for name, p in model.named_parameters()}
    fused = RAMDA(model.named_parameters(), penalized, lr=1e-2, momentum=momentum, fused=True)
    plain = RAMDA(twin.named_parameters(), penalized, lr=1e-2, momentum=momentum, fused=False)
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels / 16.0).float().view(-1, 1, 8, 8)
    size = loaded.preprocessing.input_size
    images = F.interpolate(images, size[1:]).expand(-1, size[0], -1, -1)
    targets = torch.tensor(labels)
    generator = torch.Generator().manual_seed(0)
    zeros = set()
    for _ in range(200):
        batch = torch.randint(len(images), (64,), generator=generator)
        fused.zero_grad()
        F.cross_entropy(model(images[batch]), targets[batch]).backward()
        for one, other in zip(model.parameters(), twin.parameters(), strict=True):
            other.grad = one.grad
        fused.step()
        plain.step()
        assert torch.equal(fused.solution_zero, plain.solution_zero)
        zeros.add(int(fused.solution_zero.sum()))
    assert len(zeros) > 3
    for (name, one), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        difference = float((one - other).detach().norm())
        assert difference <= 1e-5 * max(float(other.detach().norm()), start[name]), name
