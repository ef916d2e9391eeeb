"""Training texts that are read as they come."""

from itertools import chain
from pathlib import Path

import pytest
import torch

from ramda_cli.config.schema import DataConfig, ModelConfig, RunConfig
from ramda_cli.data.bundle import DataBundle
from ramda_cli.errors import ConfigError, DataError
from ramda_cli.models.loading import load_model
from ramda_cli.observer import SilentObserver
from ramda_cli.pipeline import prune
from ramda_cli.pipeline.loading import load_data
from tests.texts.models import classified, write_model, written


def streamed(folder: Path, kind: str, data: Path, *, seed: int = 0) -> DataBundle:
    loaded = load_model(ModelConfig(name=str(write_model(folder, kind))), max_length=16)
    config = DataConfig(name=str(data), batch_size=4, streaming=True)
    return load_data(config, loaded, seed=seed, batches=10)


def test_passes_are_parts_of_one_stream(tmp_path: Path) -> None:
    data = streamed(tmp_path / "m", "LlamaForCausalLM", written(tmp_path / "d", 300))
    passes = [[x["input_ids"] for x, _ in data.train] for _ in range(2)]
    assert [len(each) for each in passes] == [10, 10]
    blocks = [tuple(row.tolist()) for row in torch.cat([*chain(*passes)])]
    assert len(set(blocks)) == len(blocks)  # nothing is read twice before the end
    data.train.set_epoch(0)
    again = [x["input_ids"] for x, _ in data.train]
    assert all(map(torch.equal, again, passes[0]))
    assert data.description.startswith(f"{tmp_path / 'd'}: 40 streamed and ")


def test_the_stream_starts_again_at_its_end(tmp_path: Path) -> None:
    data = streamed(tmp_path / "m", "LlamaForCausalLM", written(tmp_path / "d", 40))
    assert len([x for _ in range(3) for x, _ in data.train]) == 30


def test_a_run(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m", "LlamaForCausalLM")
    settings = {
        "model": {"name": str(model)},
        "data": {
            "name": str(written(tmp_path / "d")), "batch_size": 4, "max_length": 16,
            "streaming": True,
        },
        "target": {"body_macs": 0.7},
        "training": {"epochs": 2, "max_steps": 10, "device": "cpu"},
        "output": {"directory": str(tmp_path / "out"), "bench": False, "onnx": False},
    }  # fmt: skip
    report = prune(RunConfig.model_validate(settings), SilentObserver())
    assert report["training"]["steps"] == 10  # type: ignore[index]
    del settings["training"]["max_steps"]  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"data\.streaming has no end"):
        RunConfig.model_validate(settings)


def test_classes_are_not_streamed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="texts for text-classification are not streamed"):
        streamed(tmp_path / "m", "BertForSequenceClassification", classified(tmp_path / "d"))
