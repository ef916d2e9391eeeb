"""Files of models whose layers are products."""

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from ramda_cli.errors import FileFormatError
from ramda_cli.export import load, read_tensors, save
from ramda_cli.export.dense import dense_module
from ramda_cli.file_header import read_header
from ramda_cli.models.loaded import ModelSource
from ramda_cli.structure import Support, discover, identify, zero_
from ramda_cli.structure.cost import CostModel
from ramda_cli.structure.matrices import Matrix
from ramda_cli.surgery import remove
from ramda_cli.surgery.factorize import factorize, with_products
from ramda_cli.surgery.low_rank_layers import LowRankConv, LowRankLinear
from tests.export.helpers import rewrite

SOURCE = ModelSource(
    "timm", "vit_tiny_patch16_224", {"img_size": 32, "depth": 2, "num_classes": 10}
)


def vit() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(SOURCE.name, **SOURCE.arguments).eval()


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)
        self.fc = nn.Linear(16, 30)
        self.head = nn.Linear(30, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fc(self.conv(x).mean((2, 3))).relu())


def written(
    model: nn.Module, ranks: dict[str, int], path: Path, source: ModelSource | None = SOURCE
) -> tuple[nn.Module, str]:
    """Factorize, and write as a plan that removes nothing says."""
    thin, found = factorize(model, ranks)
    assert len(found.ranks) == len(ranks)
    structure = discover(thin, torch.randn(2, 3, 32, 32))
    smaller, plan = remove(thin, structure, Support({}, {}), source=source)
    return smaller, save(smaller, replace(plan, ranks=found.ranks), path)


VIT = {"blocks.0.mlp.fc1.weight": 20, "blocks.1.attn.qkv.weight": 30, "patch_embed.proj.weight": 9}


def test_a_known_class_is_built_with_its_layers_of_low_rank(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    smaller, layout = written(vit(), VIT, path)
    assert layout == "native"
    loaded = load(path)
    assert type(loaded) is type(vit())
    assert isinstance(loaded.get_submodule("blocks.0.mlp.fc1"), LowRankLinear)
    assert isinstance(loaded.get_submodule("patch_embed.proj"), LowRankConv)
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(x), smaller(x))


def test_any_other_runs_as_a_graph(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    smaller, layout = written(Plain().eval(), {"conv.weight": 4, "fc.weight": 5}, path, None)
    assert layout == "graph"
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(load(path)(x), smaller(x))


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ({"blocks.7.mlp.fc1": 2}, "it factorizes blocks.7.mlp.fc1, which is not a submodule"),
        ({"blocks.0.mlp.fc1": 0}, "it gives blocks.0.mlp.fc1, a Linear, the rank 0"),
        ({"blocks.0.mlp.fc1": True}, "it gives blocks.0.mlp.fc1, a Linear, the rank True"),
        ({"blocks.0.mlp.fc1": 10**6}, "a Linear, the rank 1000000"),
        ({"blocks.0.norm1": 1}, "it gives blocks.0.norm1, a LayerNorm, the rank 1"),
        ({"blocks.0.mlp.fc1": 20}, "is missing"),
        ([], "is missing"),
    ],
)
def test_ranks_that_do_not_fit_are_refused(ranks: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    written(vit(), VIT, path)

    def change(document: dict[str, object]) -> None:
        document["ranks"] = ranks

    with pytest.raises(FileFormatError, match=message):
        load(rewrite(path, document=change))


def test_files_without_ranks_load(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    written(vit(), {}, path)

    def change(document: dict[str, object]) -> None:
        del document["ranks"]

    load(rewrite(path, document=change))


def test_channels_are_removed_after_layers_became_two(tmp_path: Path) -> None:
    thin, found = factorize(vit(), VIT)
    structure = discover(thin, torch.randn(2, 3, 32, 32))
    zero_(thin, structure, {group.name: [0] for group in structure.groups})
    smaller, plan = remove(thin, structure, identify(thin, structure), source=SOURCE)
    path = tmp_path / "model.safetensors"
    assert save(smaller, replace(plan, ranks=found.ranks), path) == "native"
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(load(path)(x), smaller.eval()(x))


@pytest.mark.parametrize("source", [SOURCE, None])
def test_not_before(source: ModelSource | None, tmp_path: Path) -> None:
    model = vit()
    structure = discover(model, torch.randn(2, 3, 32, 32))
    smaller, plan = remove(model, structure, Support({}, {}), source=source)
    thin, found = factorize(smaller, {"blocks.0.mlp.fc1.weight": 20})
    with pytest.raises(ValueError, match="factorize, then remove"):
        save(thin, replace(plan, ranks=found.ranks), tmp_path / "model.safetensors")


def test_the_dense_class_takes_the_products(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    smaller, _ = written(vit(), VIT, path)
    state, plan = read_tensors(path), read_header(path)["plan"]
    dense = dense_module(SOURCE, state, plan["kept"], read_header(path)["ranks"]).eval()
    assert set(dense.state_dict()) == set(vit().state_dict())
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(dense(x), smaller(x), rtol=1e-4, atol=1e-5)


def test_the_dense_class_takes_products_without_channels(tmp_path: Path) -> None:
    thin, found = factorize(vit(), {"blocks.0.mlp.fc1.weight": 20})
    structure = discover(thin, torch.randn(2, 3, 32, 32))
    zero_(thin, structure, {"blocks.0.mlp.fc1.up": [3, 5], "blocks.1.mlp.fc1": [0]})
    smaller, plan = remove(thin, structure, identify(thin, structure), source=SOURCE)
    path = tmp_path / "model.safetensors"
    save(smaller, replace(plan, ranks=found.ranks), path)
    document = read_header(path)
    dense = dense_module(SOURCE, read_tensors(path), document["plan"]["kept"], document["ranks"])
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(dense.eval()(x), smaller(x), rtol=1e-4, atol=1e-5)


def test_factors_that_are_missing_are_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    written(vit(), VIT, path)
    state, plan = read_tensors(path), read_header(path)["plan"]
    with pytest.raises(FileFormatError, match="its plan does not fit blocks"):
        dense_module(SOURCE, state, plan["kept"], {"blocks.0.mlp.fc2": 3})


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(60, 16, padding_idx=0)
        self.head = nn.Linear(16, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids).mean(1))


def test_an_embedding_may_be_a_product(tmp_path: Path) -> None:
    torch.manual_seed(0)
    words, path = Words().eval(), tmp_path / "model.safetensors"
    ids = torch.randint(60, (2, 7))
    thin, found = factorize(words, {"table.weight": 4})
    assert dict(found.ranks) == {"table": 4}
    exact = with_products(words, thin, found)
    torch.testing.assert_close(thin.double()(ids), exact(ids), rtol=1e-12, atol=1e-12)
    thin = thin.float()
    structure = discover(thin, ids)
    smaller, plan = remove(thin, structure, Support({}, {}), source=None)
    save(smaller, replace(plan, ranks=found.ranks), path)
    torch.testing.assert_close(load(path)(ids), thin(ids))
    cost = CostModel(discover(words, ids), (Matrix("table.weight", 60, 16),))
    kept = cost.channels.copy()
    kept[-1] = 4
    told = CostModel(structure)
    for metric in ("macs", "params"):
        assert cost.measure(metric, kept) == told.measure(metric, told.channels)
