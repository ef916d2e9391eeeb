"""Settings of training that do not go with what a model is for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers as hf

from ramda_cli.config.schema import RunConfig
from ramda_cli.errors import ConfigError
from ramda_cli.pipeline.loading import load_run
from tests.data.helpers import table
from tests.data.speech.recordings import write_recordings
from tests.models.test_tacotron2 import SIZES

Sections = dict[str, dict[str, Any]]


def speech(folder: Path) -> Sections:
    pytest.importorskip("librosa")
    name = str(write_recordings(folder / "tones"))
    return {"model": {"name": "tacotron2", "arguments": SIZES}, "data": {"name": name}}


def running_text(folder: Path) -> Sections:
    for split in ("train", "valid"):
        (folder / f"{split}.txt").write_text("the cat sees a bird .\n" * 60)
    arguments = {
        "vocab_size": 8, "cutoffs": [4], "d_model": 8, "n_layer": 1, "n_head": 2, "d_head": 4,
        "d_inner": 8, "tgt_len": 6, "mem_len": 5,
    }  # fmt: skip
    model = {"name": "transformer-xl", "arguments": arguments}
    return {"model": model, "data": {"name": str(folder), "batch_size": 4}}


def masked_images(folder: Path) -> Sections:
    hf.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
        image_size=32, patch_size=8, encoder_stride=8, architectures=["ViTModel"],
    ).save_pretrained(folder / "vit")  # fmt: skip
    (folder / "images").mkdir()
    for split in ("train", "test"):
        table(folder / "images" / f"{split}.parquet")
    name, task = str(folder / "vit"), "masked-image-modeling"
    return {
        "model": {"name": name, "task": task, "pretrained": False},
        "data": {"name": str(folder / "images"), "mask_patch": 8, "val_split": "test"},
    }


def of(sections: Sections, **settings: float) -> RunConfig:
    training = {"device": "cpu", "weight": 1e-4, **settings}
    return RunConfig.model_validate({**sections, "training": training})


@pytest.mark.parametrize("task", [speech, running_text, masked_images])
def test_labels_are_smoothed_and_mixed_of_classes_alone(
    task: Callable[[Path], Sections], tmp_path: Path
) -> None:
    sections = task(tmp_path)
    load_run(of(sections))
    with pytest.raises(ConfigError, match=r"^training.label_smoothing does nothing to this loss"):
        load_run(of(sections, label_smoothing=0.1))
    for setting in ("mixup", "cutmix"):
        with pytest.raises(ConfigError, match="mix images that have classes, and this data has"):
            load_run(of(sections, **{setting: 0.2}))


def test_labels_of_classes_are_smoothed_and_mixed() -> None:
    digits: Sections = {"model": {"name": "digits-resnet"}, "data": {"name": "digits"}}
    load_run(of(digits, label_smoothing=0.1, mixup=0.2, cutmix=1.0))
