import json

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file

from ramda_cli.config.schema import ModelConfig
from ramda_cli.errors import ModelError
from ramda_cli.models.loading import load_model
from tests.models.helpers import load, refuse, shapes

WITHOUT = "pass --weights FILE.safetensors, or --no-pretrained"


@pytest.fixture(scope="module")
def resnet10t():
    torch.manual_seed(3)
    return timm.create_model("resnet10t", num_classes=7)


def local_folder(folder, module, *, weights="model.safetensors", **config):
    folder.mkdir()
    content = {
        "architecture": "resnet10t",
        "num_classes": 7,
        "pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.2] * 3},
        **config,
    }
    (folder / "config.json").write_text(json.dumps(content))
    if weights:
        save_file(module.state_dict(), folder / weights)
    return folder


def cached(cache, repository, folder):
    """Lay out the hub's cache as if `repository` had been downloaded."""
    root = cache / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc123")
    for file in folder.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())


def test_a_model_without_weights_is_described_completely():
    loaded = load("resnet10t", pretrained=False)
    assert loaded.source.name == "resnet10t.c3_in1k"
    assert loaded.source.arguments == {"num_classes": 1000, "in_chans": 3}
    assert loaded.source.weights == "random initialization"
    assert loaded.preprocessing.input_size == (3, 176, 176)
    assert loaded.num_classes == 1000
    assert not loaded.module.training
    assert loaded.example_inputs[0].shape == (2, 3, 176, 176)
    assert loaded.notes == ()


def test_random_weights_follow_the_seed_and_leave_the_process_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    config = ModelConfig(name="resnet10t", pretrained=False)
    first, same, other = (load_model(config, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.module.fc.weight, same.module.fc.weight)
    assert not torch.equal(first.module.fc.weight, other.module.fc.weight)


def test_the_image_size_reaches_models_with_a_fixed_one():
    config = ModelConfig(name="vit_tiny_patch16_224", pretrained=False)
    loaded = load_model(config, image_size=64)
    assert loaded.source.arguments["img_size"] == [64, 64]
    assert loaded.preprocessing.input_size == (3, 64, 64)
    assert loaded.module(*loaded.example_inputs).shape == (2, 1000)


def test_the_image_size_changes_only_the_images_of_a_convolutional_model():
    loaded = load_model(ModelConfig(name="resnet10t", pretrained=False), image_size=32)
    assert loaded.preprocessing.input_size == (3, 32, 32)
    assert loaded.source.arguments == {"num_classes": 1000, "in_chans": 3}


def test_an_impossible_image_size_is_refused():
    config = ModelConfig(name="maxvit_tiny_tf_224", pretrained=False)
    with pytest.raises(ModelError, match="for 8 x 8 images: ") as caught:
        load_model(config, image_size=8)
    assert caught.value.hint == "drop --image-size"


def test_arguments_reach_the_constructor_and_are_kept():
    given = {"drop_path_rate": 0.1}
    config = ModelConfig(name="vit_tiny_patch16_224", pretrained=False, arguments=given)
    loaded = load_model(config, image_size=32)
    assert loaded.source.arguments["drop_path_rate"] == 0.1
    assert loaded.module.blocks[-1].drop_path1.drop_prob == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"drop_pat": 0.1}, "unexpected keyword argument 'drop_pat'", "correct model.arguments"),
        ({"num_classes": 3}, "follows from the data", "leave it out; --image-size sets"),
        (
            {"checkpoint_path": "x"},
            "'checkpoint_path' of .* is not allowed",
            "leave it out of model.arguments",
        ),
    ],
)
def test_arguments_that_cannot_be_are_refused(given, message, hint):
    config = ModelConfig(name="vit_tiny_patch16_224", pretrained=False, arguments=given)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(config)
    assert caught.value.hint.startswith(hint)


def test_only_models_by_name_take_arguments(tmp_path):
    with pytest.raises(ModelError, match="digits-resnet cannot be built with such arguments"):
        load_model(ModelConfig(name="digits-resnet", arguments={"drop_rate": 0.1}))
    config = ModelConfig(name=f"{tmp_path}/net.py:build", arguments={"drop_rate": 0.1})
    with pytest.raises(ModelError, match=r"are for models by name, and .* is a factory"):
        load_model(config)


@pytest.mark.parametrize("prefix", ["local-dir:", ""])
def test_a_local_directory_gives_weights_and_preprocessing(tmp_path, resnet10t, prefix):
    folder = local_folder(tmp_path / "model", resnet10t)
    loaded = load(f"{prefix}{folder}")
    assert loaded.source.name == "resnet10t"
    assert loaded.source.arguments == {"num_classes": 7, "in_chans": 3}
    assert loaded.source.weights == str(folder / "model.safetensors")
    assert loaded.preprocessing.mean == (0.5, 0.5, 0.5)
    assert torch.equal(loaded.module.fc.weight, resnet10t.fc.weight)


def test_a_pickle_is_never_opened(tmp_path, resnet10t):
    folder = local_folder(tmp_path / "model", resnet10t, weights=None)
    (folder / "pytorch_model.bin").write_bytes(b"not to be opened")
    message = f"{folder} has no weights as safetensors, and pickled weights are never opened"
    refuse(folder, message, WITHOUT)


def test_several_weight_files_need_a_choice(tmp_path, resnet10t):
    folder = local_folder(tmp_path / "model", resnet10t, weights="a.safetensors")
    save_file(resnet10t.state_dict(), folder / "b.safetensors")
    refuse(
        folder,
        f"{folder} has 2 safetensors files and none is named model.safetensors",
        "choose one with --weights FILE.safetensors",
    )


def test_a_cached_hub_model_needs_no_network(tmp_path, offline, resnet10t):
    cached(offline, "someone/tiny", local_folder(tmp_path / "model", resnet10t))
    for name in ("hf-hub:someone/tiny", "someone/tiny", "hf_hub:someone/tiny@main"):
        loaded = load(name)
        assert loaded.source.name == "resnet10t"
        assert loaded.source.weights == "hf-hub:someone/tiny@abc123"
        assert torch.equal(loaded.module.fc.weight, resnet10t.fc.weight)


def test_a_cached_registry_model_needs_no_network(tmp_path, offline):
    module = timm.create_model("resnet10t")
    folder = local_folder(tmp_path / "model", module)
    cached(offline, "timm/resnet10t.c3_in1k", folder)
    loaded = load("resnet10t")
    assert loaded.source.weights == "hf-hub:timm/resnet10t.c3_in1k@abc123"
    assert shapes(loaded.module) == shapes(module)
    assert torch.equal(loaded.module.conv1[0].weight, module.conv1[0].weight)


def test_a_damaged_pretrained_file_is_refused(tmp_path, resnet10t):
    folder = local_folder(tmp_path / "model", resnet10t, num_classes=9)
    with pytest.raises(
        Exception, match="timm cannot build resnet10t with the weights of"
    ) as caught:
        load(folder)
    assert caught.value.hint == "RAMDA_DEBUG=1 shows the traceback"


def test_unreachable_weights_name_every_way_out(offline):
    refuse(
        "resnet50",
        "cannot get the pretrained weights of resnet50: the hub cannot be reached "
        "(HF_HUB_OFFLINE=1)",
        "go online, set HF_HOME to a cache that holds timm/resnet50.a1_in1k, " + WITHOUT,
    )
    assert not offline.exists()


def test_an_unreachable_hub_is_asked_once(monkeypatch, offline):
    calls = []

    def fail(url, **options):
        calls.append(url)
        raise OSError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("ramda_cli.models.hub.get_hf_file_metadata", fail)
    refuse(
        "resnet18",
        "cannot get the pretrained weights of resnet18: the hub cannot be reached "
        "(Name or service not known)",
        "go online, set HF_HOME to a cache that holds timm/resnet18.a1_in1k, " + WITHOUT,
    )
    assert len(calls) == 1
    assert not offline.exists()


def test_an_unreachable_hub_model():
    refuse(
        "hf-hub:org/name",
        "cannot get the model hf-hub:org/name: the hub cannot be reached (HF_HUB_OFFLINE=1)",
        "go online, set HF_HOME to a cache that holds org/name, or name a directory: "
        "local-dir:PATH",
    )


def test_similar_names_are_suggested():
    refuse("resnet51", "unknown model 'resnet51'", "did you mean resnet51q, resnet50, resnet18?")
    refuse(
        "qqqqqqqq",
        "unknown model 'qqqqqqqq'",
        "timm.list_models() lists the names; one on the hub is hf-hub:qqqqqqqq",
    )


def test_similar_tags_are_suggested():
    with pytest.raises(ModelError, match=r"^unknown model 'resnet50.a1_in2k'$") as caught:
        load("resnet50.a1_in2k")
    assert caught.value.hint.startswith("did you mean resnet50.a1_in1k, ")


def test_a_model_that_was_never_pretrained():
    without = (n for n in timm.list_models("resnet*") if not timm.get_pretrained_cfg(n).has_weights)
    name = next(without)
    refuse(name, f"{name} has no pretrained weights", WITHOUT)


def test_a_directory_without_a_configuration(tmp_path):
    refuse(
        f"local-dir:{tmp_path}",
        f"no config.json in {tmp_path}",
        "give a directory that timm or the hub wrote: config.json and model.safetensors",
    )


def test_a_configuration_of_another_library(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"layers": 3}')
    refuse(
        tmp_path,
        f"{path} does not describe a timm model",
        "name a timm model, or path/to/file.py:factory for any other module",
    )
    path.write_text("[]")
    refuse(tmp_path, f"{path} is not a JSON object", "write it again")
    path.write_text("{")
    refuse(
        tmp_path,
        f"{path} cannot be read: Expecting property name enclosed in double quotes: line 1"
        " column 2 (char 1)",
        "write it again with save_pretrained",
    )
    path.write_text('{"model_type": "bert"}')
    refuse(
        tmp_path,
        f"{tmp_path} is a bert, which does not say what it is for",
        "name a task: --task text-classification or --task token-classification or"
        " --task text-generation or --task fill-mask or --task feature-extraction",
    )


def test_a_configuration_cannot_reach_other_files(tmp_path, resnet10t):
    folder = local_folder(
        tmp_path / "model", resnet10t, model_args={"checkpoint_path": "/etc/passwd"}
    )
    refuse(
        folder,
        f"the argument 'checkpoint_path' of {folder} is not allowed in a model description",
        "the file was damaged or made by hand; do not use it",
    )


def test_a_configuration_for_a_newer_timm(tmp_path, resnet10t):
    folder = local_folder(tmp_path / "model", resnet10t, architecture="resnet9000")
    refuse(
        folder,
        f"{folder} is a 'resnet9000', which timm {timm.__version__} does not have",
        "update timm",
    )


def test_a_weights_file_is_not_a_model():
    refuse(
        "best.safetensors",
        "best.safetensors is a weights file, not a model",
        "name the model and give the file with --weights best.safetensors",
    )
