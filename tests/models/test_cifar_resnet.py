import pytest
import torch

from ramda_cli.config.schema import DataConfig
from ramda_cli.data.build import build_data
from tests.models.helpers import CIFAR_FILE, REPOSITORY, load

SHARED = REPOSITORY.parent / "shared"


@pytest.mark.parametrize(("name", "parameters"), [("resnet20", 269_722), ("resnet56", 853_018)])
def test_the_size_is_that_of_the_paper(name, parameters):
    loaded = load(f"{CIFAR_FILE}:{name}")
    assert sum(p.numel() for p in loaded.module.parameters()) == parameters
    assert loaded.preprocessing.input_size == (3, 32, 32)
    assert loaded.num_classes == 10


@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_published_weights_fit(name):
    weights = SHARED / f"models/{name}-cifar10.safetensors"
    if not weights.is_file():
        pytest.skip("the published weights are not on this machine")
    load(f"{CIFAR_FILE}:{name}", weights=weights)


@pytest.mark.slow
@torch.no_grad()
def test_resnet20_reaches_its_figure_on_the_jpeg_copy(tmp_path, monkeypatch):
    weights, data = SHARED / "models/resnet20-cifar10.safetensors", SHARED / "data/cifar10"
    if not (weights.is_file() and data.is_dir()):
        pytest.skip("the data and weights are not on this machine")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path))
    loaded = load(f"{CIFAR_FILE}:resnet20", weights=weights)
    config = DataConfig(name=str(data), limit=128)
    bundle = build_data(config, loaded.preprocessing, seed=0)
    correct = sum(int((loaded.module(x).argmax(1) == y).sum()) for x, y in bundle.val)
    assert correct == 8103
