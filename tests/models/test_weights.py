import pytest
import torch
from safetensors.torch import save_file

from tests.models.helpers import CIFAR_FILE, load, refuse

NAME = f"{CIFAR_FILE}:resnet20"
FIT_HINT = "pass the model that these weights were saved from"


@pytest.fixture
def state():
    return dict(load(NAME).module.state_dict())


def save(path, state):
    save_file(state, path)
    return path


def test_every_tensor_is_loaded(tmp_path, state):
    state = {name: torch.full_like(tensor, 0.5) for name, tensor in state.items()}
    loaded = load(NAME, weights=save(tmp_path / "w.safetensors", state))
    for name, tensor in loaded.module.state_dict().items():
        assert torch.equal(tensor, state[name])
    assert loaded.source.weights == str(tmp_path / "w.safetensors")


def test_the_batch_counters_may_be_absent(tmp_path, state):
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    load(NAME, weights=save(tmp_path / "w.safetensors", state))


def test_the_first_missing_and_unexpected_keys_are_named(tmp_path, state):
    del state["conv1.weight"]
    for number in range(5):
        state[f"extra.{number}"] = torch.zeros(1)
    path = save(tmp_path / "w.safetensors", state)
    refuse(
        NAME,
        f"the weights in {path} do not fit {NAME}: missing: conv1.weight; "
        "unexpected: extra.0, extra.1, extra.2 and 2 more",
        FIT_HINT,
        weights=path,
    )


def test_a_wrong_shape_is_named(tmp_path, state):
    state["linear.weight"] = torch.zeros(100, 64)
    path = save(tmp_path / "w.safetensors", state)
    refuse(
        NAME,
        f"the weights in {path} do not fit {NAME}: wrong shape: linear.weight is (100, 64), "
        "not (10, 64)",
        FIT_HINT,
        weights=path,
    )


def test_a_missing_file(tmp_path):
    path = tmp_path / "w.safetensors"
    refuse(NAME, f"no weights file {path}", "check the path of the weights", weights=path)


def test_a_pickle(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"\x80\x04")
    refuse(
        NAME,
        f"{path} is not a .safetensors file; pickled weights are never opened",
        "convert it where you trust it: safetensors.torch.save_file(state_dict, FILE)",
        weights=path,
    )


@pytest.mark.parametrize("name", [NAME, "resnet10t"])
def test_a_file_that_is_cut_short(tmp_path, state, name):
    path = save(tmp_path / "w.safetensors", state)
    path.write_bytes(path.read_bytes()[:1000])
    refuse(
        name,
        f"{path} is not a valid safetensors file",
        "it may be cut short or misnamed; download or save it again",
        weights=path,
    )


def test_a_timm_head_takes_the_width_of_the_weights(tmp_path):
    import timm

    module = timm.create_model("resnet10t", num_classes=7)
    path = save(tmp_path / "w.safetensors", module.state_dict())
    loaded = load("resnet10t", weights=path)
    assert loaded.num_classes == 7
    assert loaded.source.arguments == {"num_classes": 7, "in_chans": 3}
    assert loaded.notes == ("the weights have 7 classes instead of 1000, and so has the head",)
    assert torch.equal(loaded.module.fc.weight, module.fc.weight)
