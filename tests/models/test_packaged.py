import torch
from safetensors.torch import save_file

from ramda_cli.config.schema import DataConfig, ModelConfig
from ramda_cli.data.build import build_data
from ramda_cli.models.loading import load_model
from ramda_cli.models.packaged import PACKAGED, pretrained_file
from tests.models.helpers import load, refuse


def test_the_file_is_small_enough_to_ship():
    for name in (name for name, packaged in PACKAGED.items() if packaged.weights):
        assert pretrained_file(name).stat().st_size <= 2_000_000


@torch.no_grad()
def test_the_digits_model_is_good_on_images_it_has_not_seen():
    loaded = load("digits-resnet")
    data = build_data(DataConfig(name="digits"), loaded.preprocessing, seed=0)
    correct = sum(int((loaded.module(x).argmax(1) == y).sum()) for x, y in data.val)
    assert correct / data.val_size >= 0.98


def test_the_digits_model_has_channels_to_spare():
    loaded = load("digits-resnet")
    assert 60_000 <= sum(p.numel() for p in loaded.module.parameters()) <= 400_000
    assert loaded.module(*loaded.example_inputs).shape == (2, 10)


def test_random_and_own_weights(tmp_path):
    fresh = load("digits-resnet", pretrained=False)
    assert fresh.source.weights == "random initialization"
    assert not torch.equal(fresh.module.fc.weight, load("digits-resnet").module.fc.weight)
    path = tmp_path / "w.safetensors"
    save_file(fresh.module.state_dict(), path)
    again = load("digits-resnet", weights=path)
    assert torch.equal(again.module.fc.weight, fresh.module.fc.weight)
    save_file({"fc.weight": torch.zeros(10, 128)}, path)
    absent = sum(not k.endswith("tracked") for k in fresh.module.state_dict()) - 1
    keys = f"conv1.weight, bn1.weight, bn1.bias and {absent - 3} more"
    refuse(
        "digits-resnet",
        f"the weights in {path} do not fit digits-resnet: missing: {keys}",
        "pass the model that these weights were saved from",
        weights=path,
    )


def test_another_image_size():
    loaded = load_model(ModelConfig(name="digits-resnet"), image_size=16)
    assert loaded.preprocessing.input_size == (1, 16, 16)
    assert loaded.module(*loaded.example_inputs).shape == (2, 10)
