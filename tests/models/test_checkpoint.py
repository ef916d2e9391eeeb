import json
import shutil

import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn.utils import prune

from ramda_cli.errors import ModelError
from ramda_cli.models.checkpoint import load_checkpoint
from ramda_cli.models.packaged import pretrained_file
from tests.models.helpers import CIFAR_FILE

SMALL = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 32,
}  # fmt: skip


def refuse(message, hint, *args, **kwargs):
    with pytest.raises(ModelError) as caught:
        load_checkpoint(*args, **kwargs)
    assert str(caught.value) == message
    assert caught.value.hint == hint


@pytest.fixture
def bert(tmp_path):
    config = transformers.BertConfig(**SMALL, id2label={0: "bad", 1: "good", 2: "odd"})
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert", model


def edit(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))


def test_a_state_dict_whose_model_is_named():
    path = pretrained_file("digits-resnet")
    checkpoint = load_checkpoint(path, model="digits-resnet")
    assert [tuple(probe[0].shape) for probe in checkpoint.probes] == [(2, 1, 8, 8)] * 4
    assert checkpoint.labels == tuple("0123456789")
    assert checkpoint.source.weights == str(path)
    state = load_file(path)
    assert all(torch.equal(state[k], v) for k, v in checkpoint.module.state_dict().items())


def test_masks_are_applied_and_told(tmp_path):
    model = timm.create_model("resnet10t", num_classes=7)
    for layer in (model.layer1[0].conv1, model.fc):
        prune.ln_structured(layer, "weight", amount=0.5, n=2, dim=0)
    path = tmp_path / "masked.safetensors"
    save_file({name: tensor.clone() for name, tensor in model.state_dict().items()}, path)
    checkpoint = load_checkpoint(path, model="resnet10t", image_size=32)
    assert torch.equal(checkpoint.module.layer1[0].conv1.weight, model.layer1[0].conv1.weight)
    assert len(checkpoint.labels) == 7
    assert checkpoint.notes[-1] == (
        "2 tensors were multiplied by the masks of torch.nn.utils.prune"
    )


def test_a_classifier_without_dimensions_does_not_fit(tmp_path):
    state = dict(timm.create_model("resnet10t", num_classes=7).state_dict())
    state["fc.weight"] = torch.tensor(1.0)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"do not fit resnet10t: wrong shape: fc\.weight is \(\)"):
        load_checkpoint(tmp_path / "model.safetensors", model="resnet10t")


def test_a_directory_of_timm(tmp_path):
    model = timm.create_model("resnet10t", num_classes=7)
    prune.ln_structured(model.layer1[0].conv1, "weight", amount=0.5, n=2, dim=0)
    save_file(dict(model.state_dict()), tmp_path / "model.safetensors")
    config = {"architecture": "resnet10t", "num_classes": 7, "pretrained_cfg": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.source.kind == "timm"
    assert torch.equal(checkpoint.module.layer1[0].conv1.weight, model.layer1[0].conv1.weight)


def test_a_directory_of_transformers(bert, capfd):
    folder, model = bert
    checkpoint = load_checkpoint(folder)
    assert checkpoint.source.kind == "huggingface"
    assert checkpoint.source.name == "BertForSequenceClassification"
    assert checkpoint.labels == ("bad", "good", "odd")
    assert checkpoint.preprocessing is None
    (tokens,) = checkpoint.probes[0]
    assert tokens.shape == (2, 16)
    assert torch.equal(checkpoint.module(tokens).logits, model(tokens).logits)
    assert capfd.readouterr() == ("", "")


def test_masks_in_a_directory_of_transformers(bert):
    folder, model = bert
    layer = model.bert.encoder.layer[0].intermediate.dense
    prune.ln_structured(layer, "weight", amount=0.5, n=2, dim=0)
    save_file(dict(model.state_dict()), folder / "model.safetensors")
    checkpoint = load_checkpoint(folder)
    loaded = checkpoint.module.bert.encoder.layer[0].intermediate.dense
    assert torch.equal(loaded.weight, layer.weight)


def test_tied_tensors_and_older_names(tmp_path):
    torch.manual_seed(0)
    image = transformers.ViTForImageClassification(
        transformers.ViTConfig(**SMALL, image_size=16, patch_size=8)
    )
    gpt = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=32,
            bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip
    for name, model in (("vit", image), ("gpt", gpt)):
        model.eval().save_pretrained(tmp_path / name)
        checkpoint = load_checkpoint(tmp_path / name)
        assert not checkpoint.source.arguments["use_cache"] if name == "gpt" else True
        probe = checkpoint.probes[0]
        assert torch.equal(checkpoint.module(*probe).logits, model(*probe).logits)


def test_the_tensors_of_transformers_must_be_all_of_them(bert):
    folder, model = bert
    state = {k: v.clone() for k, v in model.state_dict().items()}
    del state["classifier.bias"]
    state["classifier.weight"] = torch.zeros(4, 16)
    state["more"] = torch.zeros(1)
    save_file(state, folder / "model.safetensors")
    refuse(
        f"the weights in {folder / 'model.safetensors'} do not fit BertForSequenceClassification: "
        "missing: classifier.bias; unexpected: more; wrong shape: classifier.weight",
        "pass the model that these weights were saved from",
        folder,
    )


def test_code_that_comes_along_is_refused(bert):
    folder, _ = bert
    edit(folder, auto_map={"AutoModel": "evil.Model"})
    refuse(
        "the setting 'auto_map' of BertForSequenceClassification is not allowed in a model "
        "description",
        "the file was damaged or made by hand; do not use it",
        folder,
    )


def test_an_attention_kernel_is_not_asked_for(bert):
    folder, _ = bert
    edit(folder, attn_implementation="someone/kernel", _attn_implementation="someone/kernel")
    assert load_checkpoint(folder).module.config._attn_implementation in ("sdpa", "eager")


@pytest.mark.parametrize("names", [[], "BertModel", [3], None])
def test_a_directory_without_an_architecture(bert, names):
    folder, _ = bert
    edit(folder, architectures=names)
    refuse(
        f"{folder / 'config.json'} names no architecture",
        'it should have "architectures": ["BertForSequenceClassification"], for one',
        folder,
    )


def test_a_config_of_the_wrong_kind(bert):
    folder, _ = bert
    edit(folder, hidden_size="wide")
    with pytest.raises(ModelError, match=r"does not take its configuration: .*expected int"):
        load_checkpoint(folder)
    edit(folder, hidden_size=16, num_attention_heads=0)
    with pytest.raises(ModelError, match="BertForSequenceClassification cannot be built from"):
        load_checkpoint(folder)
    (folder / "config.json").write_text("[]")
    refuse(f"{folder / 'config.json'} is not a JSON object", "write it again", folder)
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match="cannot be read"):
        load_checkpoint(folder)
    (folder / "config.json").unlink()
    refuse(
        f"no config.json in {folder}",
        "give the file of a state dict, and name its model with --model",
        folder,
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"image_size": 10**6}, "takes images of size 3 x 1000000 x 1000000"),
        ({"image_size": "large"}, "takes images of size 3 x large x large"),
        ({"image_size": [8, -8]}, "takes images of size 3 x 8 x -8"),
        ({"image_size": []}, "cannot be built from .*config.json"),
    ],
)
def test_images_of_an_impossible_size(tmp_path, setting, message):
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path)
    edit(tmp_path, **setting)
    with pytest.raises(ModelError, match=message):
        load_checkpoint(tmp_path)
    assert len(load_checkpoint(tmp_path, image_size=32).probes) == 4


def test_a_model_that_takes_two_sequences(tmp_path):
    config = transformers.T5Config(
        vocab_size=50, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    refuse(
        "T5ForConditionalGeneration takes more than token ids or images",
        "remove its channels in Python: ramda_cli.surgery.fold_constants_, then remove",
        tmp_path,
    )


def test_a_state_dict_without_a_model():
    path = pretrained_file("digits-resnet")
    refuse(
        f"{path} does not say which model its tensors are of",
        "name it: --model resnet50, or --model path/to/file.py:factory",
        path,
    )


def test_a_pickle_is_never_opened(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(b"not to be read")
    refuse(
        f"{path} is not a .safetensors file; pickled weights are never opened",
        "convert it where you trust it: safetensors.torch.save_file(state_dict, FILE)",
        path,
        model="resnet18",
    )
    shutil.move(path, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"^no weights file .*model\.safetensors$"):
        load_checkpoint(tmp_path, model=f"{CIFAR_FILE}:resnet20")
