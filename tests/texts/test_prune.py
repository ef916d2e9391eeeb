"""Every task on texts, from a directory to files that compute the same."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file

import ramda_cli
from ramda_cli.config.schema import DataConfig, RunConfig
from ramda_cli.export import OnnxModel
from ramda_cli.observer import SilentObserver
from ramda_cli.pipeline import evaluate, prune
from tests.texts.models import (
    answered,
    classified,
    sentences,
    tagged,
    tokenizer,
    write_csv,
    write_model,
    written,
)

TEXT = "the cat is good and the dog is bad"


@dataclass(frozen=True)
class Run:
    """A model, its data, and what is asked for."""

    kind: str
    data: Callable[[Path], Path]
    metric: str
    task: str | None = None
    target: dict[str, float] = field(default_factory=lambda: {"macs": 0.6})
    settings: dict[str, Any] = field(default_factory=dict)


RUNS = {
    "text-classification": Run("BertForSequenceClassification", classified, "top-1 accuracy"),
    "token-classification": Run(
        "BertForTokenClassification", tagged, "F1 of tokens, macro average",
        target={"heads": 0.5, "ffn": 0.6},
    ),
    "text-generation": Run(
        "LlamaForCausalLM", written, "perplexity", target={"body_macs": 0.6}
    ),
    "fill-mask": Run("BertForMaskedLM", written, "perplexity"),
    "text2text-generation": Run("T5ForConditionalGeneration", answered, "perplexity"),
    "feature-extraction": Run(
        "BertModel", classified, "cosine to the dense embeddings", task="feature-extraction"
    ),
}  # fmt: skip


def run(
    name: str,
    folder: Path,
    *,
    layout: str = "per-layer",
    share: float | None = None,
    **settings: Any,
) -> tuple[Path, dict[str, Any]]:
    """Prune the model of a task and return the output directory and the report."""
    this = RUNS[name]
    model = write_model(folder / "model", this.kind, **this.settings)
    config = RunConfig.model_validate(
        {
            "model": {"name": str(model), "task": this.task},
            "data": {
                "name": str(this.data(folder / "data")), "batch_size": 8, "max_length": 16,
            },
            "target": this.target if share is None else {"macs": share},
            "structure": {"layout": layout},
            "training": {"epochs": 2, "lr": 1e-3, "device": "cpu", **settings},
            "output": {"directory": str(folder / "out"), "bench": False},
        }
    )  # fmt: skip
    document = prune(config, SilentObserver())
    return folder / "out", json.loads(json.dumps(document))


USUAL = "text-classification", "text-generation"


def usual(names: Iterable[str]) -> list[Any]:
    """Return parameters of which the others are slow."""
    return [n if n in USUAL else pytest.param(n, marks=pytest.mark.slow) for n in names]


@pytest.fixture(scope="module", params=usual(RUNS))
def done(request, tmp_path_factory) -> tuple[str, Path, dict[str, Any]]:
    out, report = run(request.param, tmp_path_factory.mktemp(request.param))
    return request.param, out, report


def test_the_size_is_reached_and_nothing_changes_at_the_removal(done) -> None:
    name, _, report = done
    assert report["proof"]["passed"]
    assert report["reached"]["met"]
    accuracy = report["accuracy"]
    assert accuracy["metric"] == RUNS[name].metric
    assert accuracy["before_removal"] == pytest.approx(accuracy["after_removal"], rel=1e-5)
    for key in ("reloaded", "onnx"):
        assert accuracy[key] == pytest.approx(accuracy["recovered"], rel=1e-4)


def test_the_file_gives_the_ordinary_class_and_its_tokenizer(done) -> None:
    name, out, _ = done
    model = ramda_cli.load(out / "model.safetensors")
    assert type(model) is getattr(hf, RUNS[name].kind)
    words = hf.AutoTokenizer.from_pretrained(out)
    assert words.get_vocab() == tokenizer().get_vocab()


def test_onnx_takes_any_batch_and_any_length(done) -> None:
    name, out, _ = done
    model = ramda_cli.load(out / "model.safetensors")
    onnx = OnnxModel(out / "model.onnx")
    for batch, length in ((1, 5), (3, 11)):
        ids = torch.randint(5, 30, (batch, length))
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if name == "text2text-generation":
            inputs["decoder_input_ids"] = ids[:, :4]
        with torch.no_grad():
            expected = model(**inputs)
        first = expected.logits if "logits" in expected else expected.last_hidden_state
        torch.testing.assert_close(onnx.on(inputs)[0], first, rtol=1e-4, atol=1e-4)


def test_eval_measures_what_the_report_says(done, tmp_path: Path) -> None:
    name, out, report = done
    if name == "feature-extraction":
        pytest.skip("it has no dense model to compare with")
    data = DataConfig(name=str(RUNS[name].data(tmp_path)), max_length=16)
    result = evaluate(out / "model.safetensors", data, device="cpu")
    assert result["value"] == pytest.approx(report["accuracy"]["recovered"], rel=1e-5)


def test_a_pipeline_runs_the_pruned_model(done) -> None:
    name, out, _ = done
    if name not in USUAL:
        pytest.skip("pipelines of two tasks are enough")
    model = ramda_cli.load(out / "model.safetensors")
    pipe = hf.pipeline(name, model=model, tokenizer=hf.AutoTokenizer.from_pretrained(out))
    if name == "text-generation":
        made = pipe("the cat is", max_new_tokens=3, do_sample=False)[0]["generated_text"]
        assert made.startswith("the cat is")
    else:
        assert pipe("the cat is good")[0]["label"] in model.config.label2id


@pytest.mark.slow
def test_numbers_are_predicted_and_images_are_classified(tmp_path: Path) -> None:
    rows = [(text, good + 0.25 * text.count("warm")) for text, good in sentences(120)]
    table = write_csv(tmp_path / "t.csv", ("text", "score"), rows)
    words = write_model(tmp_path / "bert", "BertForSequenceClassification")
    pictures = write_model(
        tmp_path / "vit", "ViTForImageClassification",
        image_size=8, patch_size=2, num_channels=1, num_labels=3,
    )  # fmt: skip
    for model, data, metric, kind in (
        (words, str(table), "Spearman's rank correlation", "BertForSequenceClassification"),
        (pictures, "digits", "top-1 accuracy", "ViTForImageClassification"),
    ):
        out = tmp_path / f"out-{model.name}"
        config = RunConfig.model_validate(
            {
                "model": {"name": str(model)},
                "data": {"name": data, "batch_size": 8, "limit": 64},
                "target": {"macs": 0.7},
                "training": {"epochs": 2, "lr": 1e-3, "device": "cpu"},
                "output": {"directory": str(out), "bench": False},
            }
        )
        report = json.loads(json.dumps(prune(config, SilentObserver())))
        accuracy = report["accuracy"]
        assert accuracy["metric"] == metric
        assert accuracy["dense"] is None
        assert accuracy["reloaded"] == pytest.approx(accuracy["recovered"], rel=1e-4)
        loaded = ramda_cli.load(out / "model.safetensors")
        assert type(loaded) is getattr(hf, kind)
        assert loaded.config.num_labels == (1 if model is words else 10)
        result = evaluate(out / "model.safetensors", DataConfig(name=data), device="cpu")
        assert result["value"] == pytest.approx(accuracy["recovered"], rel=1e-4)


def test_kinds_have_their_own_targets(tmp_path: Path) -> None:
    _, report = run("token-classification", tmp_path)
    asked = {r["metric"]: r["share"] for r in (report["reached"], *report["further"])}
    assert set(asked) == {"heads", "ffn"}
    assert 0.4 < asked["heads"] <= 0.5
    assert 0.55 < asked["ffn"] <= 0.6


_ALONE = """
import sys, json
sys.modules["ramda_cli"] = None  # an import of it fails
import torch, transformers
folder, kind = sys.argv[1:]
model = getattr(transformers, kind).from_pretrained(folder)
words = transformers.AutoTokenizer.from_pretrained(folder)
inputs = words("the cat is good", return_tensors="pt", return_token_type_ids=False)
start = {"decoder_input_ids": torch.tensor([[0, 5]])} if model.config.is_encoder_decoder else {}
with torch.no_grad():
    out = {"logits": model(**inputs, **start).logits.tolist()}
if model.can_generate():
    out["tokens"] = model.generate(**inputs, max_new_tokens=6, do_sample=False).tolist()
print(json.dumps(out))
"""


@pytest.mark.parametrize(
    "name",
    [
        "text-classification",
        pytest.param("text-generation", marks=pytest.mark.slow),
        pytest.param("text2text-generation", marks=pytest.mark.slow),
    ],
)
def test_uniform_widths_load_without_ramda(name: str, tmp_path: Path) -> None:
    share = 0.7 if name == "text-classification" else None  # heads of BERT stay
    out, report = run(name, tmp_path, layout="uniform", share=share)
    assert "transformers loads the directory alone" in report["layout"]
    assert report["reached"]["met"]
    kind = {
        "text-generation": "AutoModelForCausalLM",
        "text2text-generation": "AutoModelForSeq2SeqLM",
        "text-classification": "AutoModelForSequenceClassification",
    }[name]
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, str(out), kind],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    alone = json.loads(done.stdout.splitlines()[-1])
    model = ramda_cli.load(out / "model.safetensors")
    words = hf.AutoTokenizer.from_pretrained(out)
    inputs = words("the cat is good", return_tensors="pt", return_token_type_ids=False)
    start = {"decoder_input_ids": torch.tensor([[0, 5]])} if "text2text" in name else {}
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(alone["logits"]), model(**inputs, **start).logits)
    if model.can_generate():
        made = model.generate(**inputs, max_new_tokens=6, do_sample=False)
        assert alone["tokens"] == made.tolist()
    if name == "text-classification":
        heads = [g for g in report["groups"] if "attention" in g["name"]]
        assert heads
        assert all(g["kept"] == g["channels"] for g in heads)
        assert any("has no setting for their width" in note for note in report["notes"])


def test_generation_is_the_same_before_and_after_the_removal(tmp_path: Path) -> None:
    """The zeros are in `last.safetensors` of the epoch before, and the file has none of them."""
    out, _ = run("text-generation", tmp_path, recover_epochs=0)
    model = ramda_cli.load(out / "model.safetensors")
    dense = hf.LlamaForCausalLM.from_pretrained(tmp_path / "model")
    dense.load_state_dict(load_file(out / "checkpoints" / "last.safetensors"), strict=False)
    words = hf.AutoTokenizer.from_pretrained(out)
    inputs = words("the cat is", return_tensors="pt", return_token_type_ids=False)
    made = [each.eval().generate(**inputs, max_new_tokens=12, do_sample=False)
            for each in (dense, model)]  # fmt: skip
    assert torch.equal(*made)
    smaller, whole = (sum(p.numel() for p in each.parameters()) for each in (model, dense))
    assert smaller < 0.9 * whole
