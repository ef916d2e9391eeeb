"""Submodules that keep a size which no weight tells run as graphs, and only they do."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ramda_cli.errors import FileFormatError
from ramda_cli.export import load, save
from ramda_cli.models.loaded import ModelSource
from ramda_cli.structure import discover, identify, zero_
from ramda_cli.surgery import GraphModel, RemovalPlan, remove
from ramda_cli.surgery.submodules import failing_module
from tests.structure.exactness import assert_equal, call, choose, inputs, randomize_

TOKENS, MORE = inputs(2, 5, 12), inputs(6, 5, 12, seed=2)


class StubbornAttention(nn.Module):
    """Takes the head size from the width of its input, as several models of timm do."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(12, 36)
        self.proj = nn.Linear(12, 12)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        weights = (scale * q @ k.transpose(-2, -1)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(12)
        self.attn = StubbornAttention()
        self.drop = nn.Dropout(0.5)
        self.fc1 = nn.Linear(12, 20)
        self.fc2 = nn.Linear(20, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attn(self.norm(x), scale=0.5))
        return x + self.fc2(self.fc1(x).relu())


def shrunk(model: nn.Module) -> tuple[nn.Module, nn.Module, RemovalPlan]:
    structure = discover(randomize_(model), TOKENS)
    zero_(model, structure, choose(structure, 0.5))
    smaller, plan = remove(model, structure, identify(model, structure))
    return model, smaller, plan


def test_only_the_stubborn_submodules_become_graphs() -> None:
    model, smaller, plan = shrunk(nn.Sequential(Block(), Block(), nn.Linear(12, 3)))
    assert plan.layout == "native"
    assert set(plan.submodules) == {"0.attn", "1.attn"}
    assert isinstance(smaller, nn.Sequential)
    assert isinstance(smaller[0], Block)
    assert isinstance(smaller[0].attn, GraphModel)
    assert_equal(call(model, TOKENS), call(smaller, TOKENS))
    assert_equal(call(model, MORE), call(smaller, MORE))


def test_names_stay_and_everything_trains() -> None:
    model, smaller, _ = shrunk(nn.Sequential(Block(), nn.Linear(12, 3)))
    assert set(smaller.state_dict()) == set(model.state_dict())
    smaller.train()
    smaller(TOKENS).square().mean().backward()
    assert all(parameter.grad is not None for parameter in smaller.parameters())
    first, second = smaller(TOKENS), smaller(TOKENS)
    assert not torch.equal(first, second), "the block's own dropout is still there"


@pytest.mark.parametrize("training", [True, False])
def test_a_graph_takes_the_mode_of_what_it_replaces(training: bool) -> None:
    """In training mode its BatchNorm would use the batch, and change what it keeps."""

    class Normed(StubbornAttention):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(12)

        def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
            return super().forward(self.norm(x.transpose(1, 2)).transpose(1, 2), scale)

    model = randomize_(nn.Sequential(Normed(), nn.Linear(12, 3)))
    structure = discover(model, TOKENS)
    zero_(model, structure, choose(structure, 0.5))
    model.train(training)
    smaller, plan = remove(model, structure, identify(model, structure))
    assert set(plan.submodules) == {"0"}
    assert all(module.training == training for module in smaller.modules())
    assert_equal(call(copy.deepcopy(model), TOKENS), call(smaller, TOKENS))


def test_a_block_called_twice_is_replaced_under_both_names() -> None:
    block = Block()
    model, smaller, plan = shrunk(nn.Sequential(block, block, nn.Linear(12, 3)))
    assert plan.layout == "native"
    assert smaller[0] is smaller[1]
    assert_equal(call(model, MORE), call(smaller, MORE))


def test_a_submodule_that_does_not_shrink_stays() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = StubbornAttention(), StubbornAttention(), nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.b(self.a(x)))

    model = randomize_(Both())
    structure = discover(model, TOKENS)
    zero_(model, structure, {"a.qkv": [1]})
    smaller, plan = remove(model, structure, identify(model, structure))
    assert set(plan.submodules) == {"a"}
    assert type(smaller.get_submodule("b")) is StubbornAttention


def test_where_the_model_itself_is_stubborn_all_of_it_is_a_graph() -> None:
    model, smaller, plan = shrunk(StubbornAttention())
    assert (plan.layout, plan.submodules) == ("graph", {})
    assert_equal(call(model, MORE), call(smaller, MORE))


def test_the_innermost_module_that_raises_is_named() -> None:
    model = nn.Sequential(nn.Linear(12, 8), nn.Sequential(nn.ReLU(), nn.Linear(9, 3)))
    failure = failing_module(model, lambda m: m(TOKENS.float()))
    assert failure is not None
    assert failure.path == "1.1"
    assert failure.shapes == [(2, 5, 8)]
    assert failing_module(model[0], lambda m: m(TOKENS.float())) is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.fixture
def saved(tmp_path: Path) -> tuple[nn.Module, Path]:
    """A model of timm whose attention takes its head size from its input."""
    import timm

    arguments = {"img_size": 32, "patch_size": 8, "depth": 2, "num_classes": 3}
    name = "beit_base_patch16_224"
    torch.manual_seed(0)
    model = timm.create_model(name, **arguments).eval()
    x = torch.randn(2, 3, 32, 32)
    structure = discover(model, x)
    zero_(model, structure, choose(structure, 0.5))
    smaller, plan = remove(
        model, structure, identify(model, structure), source=ModelSource("timm", name, arguments)
    )
    assert set(plan.submodules) == {"blocks.0.attn", "blocks.1.attn"}
    path = tmp_path / "model.safetensors"
    assert save(smaller, plan, path) == "native"
    return model, path


def test_a_file_rebuilds_the_graphs_inside_the_class(saved: tuple[nn.Module, Path]) -> None:
    model, path = saved
    loaded = load(path)
    assert type(loaded) is type(model)
    x = torch.randn(5, 3, 32, 32)
    wide = copy.deepcopy(model).double()
    assert_equal(call(wide, x.double()), call(loaded.double(), x.double()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda programs: {"blocks.7.attn": next(iter(programs.values()))}, "not a submodule"),
        (lambda programs: {**programs, "blocks.0.attn": 3}, "its graph cannot be read"),
        (lambda programs: {"norm": next(iter(programs.values()))}, "is missing"),
    ],
)
def test_a_file_may_only_replace_submodules_that_are_there(
    saved: tuple[nn.Module, Path], change: object, message: str
) -> None:
    import json

    from safetensors import safe_open
    from safetensors.torch import save_file

    _, path = saved
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    document = json.loads(metadata["ramda"])
    document["submodules"] = change(document["submodules"])  # type: ignore[operator]
    save_file(tensors, path, {**metadata, "ramda": json.dumps(document)})
    with pytest.raises(FileFormatError, match=message):
        load(path)
