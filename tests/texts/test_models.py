"""Loading models of transformers: tasks, heads, tokenizers, shards, the hub's cache."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ramda_cli.config.schema import ModelConfig
from ramda_cli.errors import ModelError
from ramda_cli.models.heads import adapt_labels
from ramda_cli.models.loading import load_model
from tests.texts.models import model, tokenizer, write_model


def refused(folder: Path, **settings) -> tuple[str, str]:
    with pytest.raises(ModelError) as raised:
        load_model(ModelConfig(name=str(folder), **settings))
    return str(raised.value), str(raised.value.hint)


@pytest.mark.parametrize(
    ("kind", "task", "classes"),
    [
        ("BertForSequenceClassification", "text-classification", 2),
        ("BertForTokenClassification", "token-classification", 2),
        ("BertForMaskedLM", "fill-mask", 0),
        ("LlamaForCausalLM", "text-generation", 0),
        ("GPT2LMHeadModel", "text-generation", 0),
        ("T5ForConditionalGeneration", "text2text-generation", 0),
    ],
)
def test_the_task_is_that_of_the_architecture(
    tmp_path: Path, kind: str, task: str, classes: int
) -> None:
    loaded = load_model(ModelConfig(name=str(write_model(tmp_path, kind))))
    assert type(loaded.module).__name__ == kind
    assert (loaded.task.name, loaded.num_classes, loaded.new_head) == (task, classes, False)
    written = model(kind).state_dict()
    for name, tensor in loaded.module.state_dict().items():
        assert torch.equal(tensor, written[name])
    with torch.no_grad():
        outputs = loaded.module(**loaded.example_inputs)  # type: ignore[arg-type]
    assert outputs.logits.isfinite().all()


def test_a_body_takes_a_new_head_for_a_task(tmp_path: Path) -> None:
    write_model(tmp_path, "BertModel")
    assert load_model(ModelConfig(name=str(tmp_path))).task.name == "feature-extraction"
    loaded = load_model(ModelConfig(name=str(tmp_path), task="text-classification"))
    assert loaded.new_head
    assert loaded.notes == (
        f"classifier.bias, classifier.weight of {tmp_path} started from random weights",
    )
    again = load_model(ModelConfig(name=str(tmp_path), task="text-classification"))
    other = load_model(ModelConfig(name=str(tmp_path), task="text-classification"), seed=1)
    weights = [each.module.classifier.weight for each in (loaded, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    body = loaded.module.bert.state_dict()
    for name, tensor in model("BertModel").state_dict().items():
        assert torch.equal(tensor, body[name])


def test_a_model_that_cannot_do_a_task(tmp_path: Path) -> None:
    write_model(tmp_path, "T5ForConditionalGeneration")
    message, hint = refused(tmp_path, task="fill-mask")
    assert message == "models of type 't5' do no fill-mask"
    assert "text2text-generation" in hint


def test_classes_have_the_names_of_the_data(tmp_path: Path) -> None:
    loaded = load_model(ModelConfig(name=str(write_model(tmp_path, "BertForTokenClassification"))))
    same = adapt_labels(loaded, ("O", "NOUN"))
    assert same.module.config.id2label == {0: "O", 1: "NOUN"}
    assert torch.equal(same.module.classifier.weight, loaded.module.classifier.weight)
    assert not same.new_head
    assert same.notes == loaded.notes
    more = adapt_labels(loaded, ("O", "NOUN", "ADJ"))
    assert more.module.classifier.out_features == 3
    assert more.new_head
    assert "a new head with 3 outputs starts from random weights" in more.notes
    assert more.source.arguments["id2label"] == {"0": "O", "1": "NOUN", "2": "ADJ"}
    assert torch.equal(
        more.module.bert.embeddings.word_embeddings.weight,
        loaded.module.bert.embeddings.word_embeddings.weight,
    )


def test_shards_are_one_model(tmp_path: Path) -> None:
    write_model(tmp_path / "whole", "LlamaForCausalLM")
    model("LlamaForCausalLM").save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    tokenizer().save_pretrained(tmp_path / "shards")
    assert not (tmp_path / "shards" / "model.safetensors").exists()
    whole, shards = (
        load_model(ModelConfig(name=str(tmp_path / name))).module.state_dict()
        for name in ("whole", "shards")
    )
    assert all(torch.equal(whole[name], shards[name]) for name in whole)
    next((tmp_path / "shards").glob("*00002*")).unlink()
    message, _ = refused(tmp_path / "shards")
    assert "which its index names" in message


def test_settings_of_the_configuration(tmp_path: Path) -> None:
    write_model(tmp_path, "LlamaForCausalLM")
    loaded = load_model(ModelConfig(name=str(tmp_path), arguments={"attention_dropout": 0.25}))
    assert loaded.module.config.attention_dropout == 0.25
    assert loaded.source.arguments["attention_dropout"] == 0.25
    message, hint = refused(tmp_path, arguments={"atention_dropout": 0.25})
    assert message == "LlamaConfig has no setting 'atention_dropout'"
    assert hint.startswith("did you mean attention_dropout")


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    write_model(tmp_path, "LlamaForCausalLM")
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    message, hint = refused(tmp_path)
    assert message.endswith("no weights as safetensors, and pickled weights are never opened")
    assert hint == "pass --weights FILE.safetensors, or --no-pretrained"
    loaded = load_model(ModelConfig(name=str(tmp_path), pretrained=False))
    assert loaded.source.weights == "random initialization"


def test_weights_of_another_model(tmp_path: Path) -> None:
    write_model(tmp_path, "LlamaForCausalLM")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    message, hint = refused(tmp_path, weights=tmp_path / "other.safetensors")
    assert "do not fit LlamaForCausalLM: missing: model.embed_tokens.weight" in message
    assert hint == "pass the model that these weights were saved from"
    state = model("LlamaForCausalLM").state_dict()
    save_file({k: v.contiguous().clone() for k, v in state.items()}, tmp_path / "same.safetensors")
    same = load_model(ModelConfig(name=str(tmp_path), weights=tmp_path / "same.safetensors"))
    assert same.source.weights == str(tmp_path / "same.safetensors")


def test_a_model_without_its_tokenizer(tmp_path: Path) -> None:
    model("LlamaForCausalLM").save_pretrained(tmp_path)
    message, hint = refused(tmp_path)
    assert message == f"{tmp_path} has no tokenizer"
    assert "tokenizer.save_pretrained(DIR)" in hint


def test_code_of_a_model_is_not_run(tmp_path: Path) -> None:
    write_model(tmp_path, "LlamaForCausalLM")
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model"}
    path.write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text("raise SystemExit")
    assert type(load_model(ModelConfig(name=str(tmp_path))).module).__module__.startswith("transf")
    config["quantization_config"] = {"quant_method": "bitsandbytes"}
    path.write_text(json.dumps(config))
    message, hint = refused(tmp_path)
    assert message == f"the weights of {tmp_path} are quantised"
    assert hint == "give the model in full precision"


def test_padding_is_one_token_for_model_and_tokenizer(tmp_path: Path) -> None:
    """A decoder that classifies looks for it, to find the last token of a text."""
    write_model(tmp_path, "LlamaForSequenceClassification", pad_token_id=None)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["pad_token"]
    path.write_text(json.dumps(config))
    loaded = load_model(ModelConfig(name=str(tmp_path)))
    assert loaded.tokenizer.pad_token_id == loaded.module.config.pad_token_id == 3
    assert loaded.source.arguments["pad_token_id"] == 3
    ids, padded = torch.tensor([[5, 6, 7]]), torch.tensor([[5, 6, 7, 3, 3]])
    with torch.no_grad():
        short = loaded.module(input_ids=ids, attention_mask=torch.ones(1, 3)).logits
        mask = torch.tensor([[1, 1, 1, 0, 0]])
        long = loaded.module(input_ids=padded, attention_mask=mask).logits
    torch.testing.assert_close(short, long)


def test_weights_keep_their_digits(tmp_path: Path) -> None:
    write_model(tmp_path, "LlamaForCausalLM")
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "dtype": "bfloat16", "torch_dtype": "bfloat16"}))
    loaded = load_model(ModelConfig(name=str(tmp_path))).module.state_dict()
    written = model("LlamaForCausalLM").state_dict()
    assert all(torch.equal(loaded[name], written[name]) for name in written)


def test_settings_of_generation_that_are_not_valid(tmp_path: Path) -> None:
    write_model(tmp_path, "LlamaForCausalLM")
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps({"max_new_tokens": -3}))
    message, hint = refused(tmp_path)
    assert message.startswith("the settings of generation are not valid")
    assert hint == "correct generation_config.json, or take it away"


def test_an_encoder_decoder_that_classifies(tmp_path: Path) -> None:
    write_model(tmp_path, "T5ForConditionalGeneration")
    message, _ = refused(tmp_path, task="text-classification")
    assert "does text-classification by an encoder and a decoder" in message


def test_settings_of_generation_travel(tmp_path: Path) -> None:
    write_model(tmp_path, "LlamaForCausalLM")
    path = tmp_path / "generation_config.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "repetition_penalty": 1.5, "eos_token_id": [3, 4]}))
    loaded = load_model(ModelConfig(name=str(tmp_path)))
    settings = loaded.module.generation_config
    assert (settings.repetition_penalty, settings.eos_token_id) == (1.5, [3, 4])


def test_a_repository_in_the_cache(tmp_path: Path) -> None:
    """As the hub's library lays it out; in a process of its own, which reads HF_HOME."""
    root = tmp_path / "hub" / "models--org--name"
    write_model(root / "snapshots" / "abc", "BertForSequenceClassification")
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc")
    done = subprocess.run(
        [sys.executable, "-m", "ramda_cli", "inspect", "hf-hub:org/name", "--json"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["model"]["weights"] == "hf-hub:org/name@abc"
    assert found["outcome"]["layout"] == "native"
    assert any("attention" in group["name"] for group in found["groups"])


def test_layers_that_the_configuration_does_not_have(tmp_path: Path) -> None:
    write_model(tmp_path, "LlamaForCausalLM")
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "num_hidden_layers": 1, "layer_types": None}))
    message, _ = refused(tmp_path)
    assert "do not fit LlamaForCausalLM: unexpected: model.layers.1" in message


def test_a_pooler_that_a_task_has_no_use_for_is_left_out(tmp_path: Path) -> None:
    model("BertForSequenceClassification").save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    loaded = load_model(ModelConfig(name=str(tmp_path), task="token-classification"))
    assert type(loaded.module).__name__ == "BertForTokenClassification"
    assert not any("pooler" in name for name, _ in loaded.module.named_parameters())


def test_a_head_that_a_task_has_no_use_for_is_left_out(tmp_path: Path) -> None:
    write_model(tmp_path, "BertForSequenceClassification")
    loaded = load_model(ModelConfig(name=str(tmp_path), task="feature-extraction"))
    assert type(loaded.module).__name__ == "BertModel"
    assert not loaded.new_head
