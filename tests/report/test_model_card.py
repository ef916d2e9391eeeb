"""The model card: what the hub's own parser finds in it, and that no text of a run is markup."""

from dataclasses import replace
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from ramda_cli.report.document import Report
from ramda_cli.report.model_card import render_card
from ramda_cli.report.plain import build_report
from tests.report.sample import REPORT

DETAILS: dict[str, Any] = {
    "task": "image-classification",
    "preprocessing": {
        "input_size": (3, 32, 48),
        "mean": (0.5, 0.25, 0.125),
        "std": (0.2, 0.2, 0.2),
        "interpolation": "bicubic",
        "crop_pct": 0.95,
    },
}
HOSTILE = "x\n---\nlicense: mit\n# y <script>alert(1)</script> [z](http://a) @all\x1b[31m: 1"


def card_of(report: Report) -> ModelCard:
    return ModelCard(render_card(build_report(report), DETAILS))


def with_model(**changes: Any) -> Report:
    return replace(REPORT, model=replace(REPORT.model, **changes))


def test_the_hub_reads_what_it_is_and_what_was_measured() -> None:
    card = card_of(REPORT)
    found = card.data.to_dict()
    assert found["library_name"] == "ramda-cli"
    assert found["pipeline_tag"] == "image-classification"
    assert found["metrics"] == ["accuracy"]
    assert {"pruning", "ramda"} <= set(found["tags"])
    (index,) = found["model-index"]
    assert index["name"] == "digits-resnet, 50.0 % of the MACs"
    (result,) = index["results"]
    assert result["task"] == {"type": "image-classification"}
    assert result["dataset"] == {"name": "digits", "type": "digits"}
    (metric,) = result["metrics"]
    assert metric == {"type": "accuracy", "value": 0.9889, "name": "top-1 accuracy"}
    # What is not known is not said.
    assert not {"license", "base_model", "datasets", "language"} & found.keys()


@pytest.mark.parametrize(
    ("weights", "base"),
    [
        ("hf-hub:timm/resnet50.a1_in1k@0a1b2c", "timm/resnet50.a1_in1k"),
        ("/home/me/timm/resnet50.safetensors", None),
        ("hf-hub:a/b](http://x)@0a1b2c", None),
        ("random initialization", None),
    ],
)
def test_the_base_model_is_named_where_the_hub_has_it(weights: str, base: str | None) -> None:
    card = card_of(with_model(weights=weights))
    assert card.data.base_model == base
    assert (f"https://huggingface.co/{base}" in card.text) == (base is not None)


@pytest.mark.parametrize(
    ("terms", "shown"), [("mit", "mit"), ("unknown", None), ("x\ny: z", None), (None, None)]
)
def test_a_license_is_given_only_where_it_is_known(terms: str | None, shown: str | None) -> None:
    card = card_of(with_model(license=terms))
    assert card.data.license == shown
    assert ("licence of the starting weights is not recorded" in card.text) == (shown is None)


def test_a_data_set_of_the_hub_is_linked_and_a_directory_is_not_disclosed() -> None:
    hub = replace(REPORT.data, description="org/photos: 9 images", hub_id="org/photos")
    card = card_of(replace(REPORT, data=hub))
    assert card.data.datasets == ["org/photos"]
    assert card.data.eval_results[0].dataset_type == "org/photos"
    folder = replace(REPORT.data, description="/home/me/my photos: 9 images")
    card = card_of(replace(REPORT, data=folder))
    assert card.data.datasets is None
    assert card.data.eval_results[0].dataset_name == "my photos"
    assert card.data.eval_results[0].dataset_type == "my-photos"


def test_a_reader_finds_figures_proof_command_and_how_to_load_it() -> None:
    text = card_of(REPORT).text
    for expected in (
        "| parameters | 272 k | 140 k | 51.4 % |",
        "| after the removal | 98.89 % |",
        "| validation batch | float64 | 256 | 2.1e-15 | 1.0e-09 | passed |",
        "\n    ramda prune digits-resnet --data digits\n",
        "N x 3 x 32 x 48 to N x 10",
        "mean 0.5, 0.25, 0.125 and deviation 0.2, 0.2, 0.2",
        "alone build the dense layers, so they cannot load it",
        "10 classes",
        "asked: 50.0 % of the MACs; reached: 50.0 % \\(20.5 M of 20.5 M asked for\\)",
        "| latency | dense | pruned | speed-up |",
    ):
        assert expected in text, expected
    assert "model.onnx" not in text


def test_a_model_that_is_no_classifier_tells_no_classes_apart() -> None:
    assert "classes apart" in str(card_of(REPORT))
    text = str(card_of(with_model(classes=0)))
    assert "classes apart" not in text
    assert "- What the starting weights and the data are biased to, it is too." in text


def test_what_lost_nothing_is_not_said_to_have_other_widths() -> None:
    size = replace(REPORT.size, pruned=REPORT.size.dense)
    assert "dense widths" not in card_of(replace(REPORT, size=size)).text


def test_names_are_neither_markup_nor_metadata() -> None:
    report = replace(
        with_model(name=HOSTILE, weights=HOSTILE, license=HOSTILE),
        data=replace(REPORT.data, description=HOSTILE, fingerprint=HOSTILE, hub_id=HOSTILE),
        accuracy=replace(REPORT.accuracy, metric=HOSTILE),
        layout=HOSTILE,
        proof=replace(REPORT.proof, checks=(replace(REPORT.proof.checks[0], name=HOSTILE),)),
        reproducibility=replace(
            REPORT.reproducibility, command=HOSTILE, versions={HOSTILE: HOSTILE}, device=HOSTILE
        ),
    )
    text = render_card(build_report(report), DETAILS)
    metadata, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert not {"license", "datasets", "base_model"} & yaml.safe_load(metadata).keys()
    assert ModelCard(text).data.eval_results[0].metric_value == 0.9889
    assert "\x1b" not in text
    outside_code = [line for line in body.splitlines() if not line.startswith("    ")]
    assert not any("<script>" in line or "[z](" in line for line in outside_code)
    assert not any(line.startswith("# y") for line in outside_code)
