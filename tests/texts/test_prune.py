"""Every task on texts, from a directory to files that compute the same."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

import ramda_cli
from ramda_cli.config.schema import DataConfig, RunConfig
from ramda_cli.export import OnnxModel
from ramda_cli.observer import SilentObserver
from ramda_cli.pipeline import evaluate, prune
from tests.texts.models import answered, classified, tagged, tokenizer, write_model, written

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


def run(name: str, folder: Path, **settings: Any) -> tuple[Path, dict[str, Any]]:
    """Prune the model of a task and return the output directory and the report."""
    this = RUNS[name]
    model = write_model(folder / "model", this.kind, **this.settings)
    config = RunConfig.model_validate(
        {
            "model": {"name": str(model), "task": this.task},
            "data": {
                "name": str(this.data(folder / "data")), "batch_size": 8, "max_length": 16,
            },
            "target": this.target,
            "training": {"epochs": 2, "lr": 1e-3, "device": "cpu", **settings},
            "output": {"directory": str(folder / "out"), "bench": False},
        }
    )  # fmt: skip
    document = prune(config, SilentObserver())
    return folder / "out", json.loads(json.dumps(document))


@pytest.fixture(scope="module", params=list(RUNS))
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


def test_kinds_have_their_own_targets(tmp_path: Path) -> None:
    _, report = run("token-classification", tmp_path)
    asked = {r["metric"]: r["share"] for r in (report["reached"], *report["further"])}
    assert set(asked) == {"heads", "ffn"}
    assert 0.4 < asked["heads"] <= 0.5
    assert 0.55 < asked["ffn"] <= 0.6


def test_a_pipeline_runs_the_pruned_model(tmp_path: Path) -> None:
    out, _ = run("text-generation", tmp_path)
    model = ramda_cli.load(out / "model.safetensors")
    words = hf.AutoTokenizer.from_pretrained(out)
    pipe = hf.pipeline("text-generation", model=model, tokenizer=words)
    made = pipe("the cat is", max_new_tokens=3, do_sample=False)[0]["generated_text"]
    assert made.startswith("the cat is")
