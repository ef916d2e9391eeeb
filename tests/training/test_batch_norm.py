import pytest
import torch
from torch import nn

from ramda_cli.structure import Support, discover
from ramda_cli.surgery import remove
from ramda_cli.surgery.program import GraphModel
from ramda_cli.training.batch_norm import freeze_batch_norm_, recompute_batch_norm_
from ramda_cli.training.randomness import is_random
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


class Reshaping(nn.Module):
    """A net whose code knows its width, so that a smaller one runs as a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.net.bn1(self.net.conv1(x)).relu().reshape(-1, 12, 8, 8)
        x = self.net.bn2(self.net.conv2(x)).relu()
        return self.net.fc(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))


def as_graph(model: nn.Module) -> GraphModel:
    structure = discover(model, torch.zeros(2, 1, 8, 8))
    channels = {structure.groups[0].name: [0, 5, 7]}
    smaller, plan = remove(model, structure, Support(channels, {}))
    graphs = [module for module in smaller.modules() if isinstance(module, GraphModel)]
    assert plan.layout == "graph"
    assert graphs == [smaller]
    return graphs[0]


def test_a_graph_has_statistics_too() -> None:
    model = Reshaping()
    with torch.no_grad():  # what is removed has no effect
        model.net.conv1.weight[[0, 5, 7]] = 0
        model.net.conv2.weight[:, [0, 5, 7]] = 0
    graph = as_graph(model)
    batches = [(torch.randn(16, 1, 8, 8) * (i + 1), torch.zeros(16)) for i in range(5)]
    assert recompute_batch_norm_(graph, batches, device=CPU)
    assert recompute_batch_norm_(model, batches, device=CPU)
    kept = [i for i in range(12) if i not in (0, 5, 7)]
    norm, same = graph.get_submodule("net.bn1"), model.net.bn1
    torch.testing.assert_close(norm.running_mean, same.running_mean[kept])
    torch.testing.assert_close(norm.running_var, same.running_var[kept])
    images = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(graph.eval()(images), model.eval()(images), rtol=1e-4, atol=1e-5)
    assert graph.batch_norm_momentum is None


def test_a_graphs_statistics_can_be_frozen() -> None:
    graph = as_graph(Reshaping()).train()
    images = torch.randn(4, 1, 8, 8) + 3
    before = graph.get_submodule("net.bn1").running_mean.clone()
    freeze_batch_norm_(graph)
    frozen = graph(images)
    assert torch.equal(graph.get_submodule("net.bn1").running_mean, before)
    torch.testing.assert_close(frozen, graph.eval()(images))
    graph.batch_norm_frozen = False
    graph.train()(images)
    assert not torch.equal(graph.get_submodule("net.bn1").running_mean, before)


def test_dropout_is_random_and_batch_norm_is_not() -> None:
    model, inputs = net().train(), (torch.randn(2, 1, 8, 8),)
    before, state = model.bn1.running_mean.clone(), torch.get_rng_state()
    assert not is_random(model, inputs)
    assert is_random(nn.Sequential(model, nn.Dropout(0.1)).eval(), inputs)
    assert torch.equal(model.bn1.running_mean, before)
    assert torch.equal(torch.get_rng_state(), state)
