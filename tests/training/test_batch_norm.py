import pytest
import torch
from torch import nn

from ramda_cli.training.batch_norm import recompute_batch_norm_
from tests.training.problems import CPU, digits, net


def test_statistics_become_the_average_over_the_batches() -> None:
    model = net().double()
    batches = [(torch.randn(16, 1, 8, 8).double() * (i + 1), torch.zeros(16)) for i in range(5)]
    model.train()(100 + batches[0][0])  # statistics of other inputs, to be forgotten
    model.bn2.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    weights = {name: p.clone() for name, p in model.named_parameters()}

    assert recompute_batch_norm_(model, batches, device=CPU)

    seen = [model.conv1(images) for images, _ in batches]
    mean = torch.stack([x.mean(dim=(0, 2, 3)) for x in seen]).mean(dim=0)
    var = torch.stack([x.var(dim=(0, 2, 3)) for x in seen]).mean(dim=0)
    torch.testing.assert_close(model.bn1.running_mean, mean)
    torch.testing.assert_close(model.bn1.running_var, var)
    # The second layer sees what the first gives with statistics of its own batch.
    inner = [nn.functional.batch_norm(x, None, None, training=True).relu() for x in seen]
    seen = [model.conv2(x) for x in inner]
    mean = torch.stack([x.mean(dim=(0, 2, 3)) for x in seen]).mean(dim=0)
    torch.testing.assert_close(model.bn2.running_mean, mean)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert model.bn1.momentum == model.bn2.momentum == 0.1
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())


def test_no_more_than_200_batches_are_read() -> None:
    read = 0

    class Endless:
        def __len__(self) -> int:
            return 10**9

        def __iter__(self):
            nonlocal read
            while True:
                read += 1
                yield torch.randn(2, 1, 8, 8), torch.zeros(2)

    model = net()
    assert recompute_batch_norm_(model, Endless(), device=CPU)
    assert read == 200
    assert model.bn1.num_batches_tracked == 200


@pytest.mark.parametrize(
    "model",
    [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(1, track_running_stats=False)],
    ids=["none", "untracked"],
)
def test_models_without_statistics_are_left_alone(model: nn.Module) -> None:
    assert not recompute_batch_norm_(model, digits().train, device=CPU)
