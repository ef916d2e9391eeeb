"""Models that paint what is hidden of images, from a configuration to files that do the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

import ramda_cli
from ramda_cli.config.schema import DataConfig, ModelConfig, RunConfig
from ramda_cli.errors import FileFormatError, ModelError
from ramda_cli.models.loading import load_model
from ramda_cli.observer import SilentObserver
from ramda_cli.pipeline import evaluate, prune
from tests.data.helpers import table
from tests.export.helpers import rewrite

KIND = hf.ViTForMaskedImageModeling
RUNS: dict[str, dict[str, Any]] = {
    "channels": {
        "target": {"macs": 0.8},
        "structure": {"layout": "uniform"},
        "training": {"epochs": 2, "lr": 1e-3},
        "output": {"onnx": True},
    },
    "ranks": {
        "structure": {"low_rank": ["*"], "keep": ["vit.embeddings.*", "decoder.*"]},
        "training": {"epochs": 2, "lr": 1e-2, "weight": 3e-3},
        "output": {"onnx": False},
    },
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a configuration and no weights."""
    folder = tmp_path_factory.mktemp("vit")
    config = hf.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=128,
        image_size=32, patch_size=8, encoder_stride=8, architectures=["ViTModel"],
    )  # fmt: skip
    config.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("images")
    table(folder / "train.parquet", count=48)
    table(folder / "test.parquet", count=12)
    return {"name": str(folder), "val_split": "test", "workers": 0}


@pytest.fixture(scope="module", params=["ranks", pytest.param("channels", marks=pytest.mark.slow)])
def done(request, model, data, tmp_path_factory) -> tuple[str, Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp(request.param)
    settings = RUNS[request.param]
    config = RunConfig.model_validate(
        {
            "model": {"name": str(model), "task": "masked-image-modeling", "pretrained": False},
            "data": {**data, "batch_size": 16, "mask_patch": 16, "mask_ratio": 0.5},
            **settings,
            "training": {**settings["training"], "device": "cpu"},
            "output": {**settings["output"], "directory": str(folder), "bench": False},
        }
    )
    return request.param, folder, prune(config, SilentObserver())


def test_the_removal_changes_nothing(done) -> None:
    name, _, report = done
    assert report["proof"]["passed"]
    accuracy = report["accuracy"]
    assert accuracy["metric"] == "L1 error of the hidden pixels"
    assert not accuracy["is_share"]
    assert not accuracy["higher_is_better"]
    assert accuracy["before_removal"] == pytest.approx(accuracy["after_removal"], rel=1e-6)
    final = accuracy["recovered"] or accuracy["after_removal"]
    assert accuracy["reloaded"] == pytest.approx(final, rel=1e-6)
    if name == "channels":
        assert report["reached"]["met"]
        assert accuracy["onnx"] == pytest.approx(final, rel=1e-4)
    else:
        assert any(entry["factorized"] for entry in report["matrices"])
        assert len(report["matrices"]) == 6
        assert all(entry["name"].startswith("vit.layers.0.") for entry in report["matrices"])


def test_the_file_is_measured_with_the_masks_of_training(done, data) -> None:
    _, folder, report = done
    config = DataConfig(**data, eval_batch_size=5)
    result = evaluate(folder / "model.safetensors", config, device="cpu")
    assert result["value"] == pytest.approx(report["accuracy"]["reloaded"], rel=1e-6)
    assert "2 of 4 squares of 16 pixels hidden" in result["data"]
    assert result["examples"] == 12


def test_the_file_gives_the_class_and_its_library_loads_uniform_widths(done) -> None:
    name, folder, _ = done
    loaded = ramda_cli.load(folder / "model.safetensors")
    assert type(loaded) is KIND
    inputs = {
        "pixel_values": torch.randn(3, 3, 32, 32),
        "bool_masked_pos": torch.arange(48).view(3, 16) % 2 == 0,
    }
    painted = loaded(**inputs).reconstruction
    assert painted.shape == (3, 3, 32, 32)
    if name == "channels":
        again = hf.AutoModelForMaskedImageModeling.from_pretrained(folder).eval()
        torch.testing.assert_close(again(**inputs).reconstruction, painted)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "bool_masked_pos=hidden" in card
    assert "pipeline_tag" not in card


@pytest.mark.parametrize(
    "change",
    [{"square": 12}, {"patch_size": 0}, {"square": 24}, {"ratio": 0.0}, {"ratio": 1.5}],
)
def test_a_header_that_hides_the_impossible_is_refused(done, data, tmp_path, change) -> None:
    _, folder, _ = done

    def damage(document: dict[str, Any]) -> None:
        document["details"]["preprocessing"]["masking"].update(change)

    path = tmp_path / "model.safetensors"
    path.write_bytes((folder / "model.safetensors").read_bytes())
    path = rewrite(path, document=damage)
    with pytest.raises(FileFormatError, match="does not say what its inputs must look like"):
        evaluate(path, DataConfig(**data), device="cpu")


def test_a_model_is_given_images_of_its_own_size(model) -> None:
    settings = {"name": str(model), "task": "masked-image-modeling", "pretrained": False}
    with pytest.raises(ModelError, match="paints images of 32 pixels, not of 64") as caught:
        load_model(ModelConfig.model_validate(settings), image_size=64)
    assert caught.value.hint == "set model.arguments.image_size in place of --image-size"
    larger = settings | {"arguments": {"image_size": 64}}
    loaded = load_model(ModelConfig.model_validate(larger))
    assert loaded.example_inputs["bool_masked_pos"].shape == (2, 64)
    assert type(loaded.module) is KIND
