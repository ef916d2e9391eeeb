"""What one machine prunes, another loads, exports and verifies: no network, no base weights."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from ramda_cli import discover, identify, remove, save, zero_
from tests.structure.exactness import choose

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = """
import json, sys
import torch
torch.set_num_threads(1)
from ramda_cli import load
from ramda_cli.cli.app import app

outcomes = {"class": type(load("out/model.safetensors")).__name__}
for command in json.loads(sys.argv[1]):
    try:
        app(command.split())
    except SystemExit as end:
        outcomes[command] = end.code
assert not {"tests", "net"} & set(sys.modules)
sys.stderr.write("OUTCOMES" + json.dumps(outcomes))
"""
NET = """
import torch
from torch import nn

PREPROCESSING = dict(input_size=(1, 8, 8), mean=(0.305,), std=(0.376,))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 16, 3, padding=1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = self.norm(self.conv1(x)).relu()
        return self.fc(self.conv2(x).relu().mean(dim=(2, 3)))
"""
PRUNE = "--data digits --limit 256 --batch-size 32 --epochs 2 --device cpu --target macs=0.5"
GRAPHS = (
    "export out --format onnx -o out/second.onnx",
    "export out --format onnx --fp16 --batch 1 -o out/half.onnx",
    "export out --format torch-export -o out/model.pt2",
)


def elsewhere(directory: Path, *commands: str) -> dict[str, Any]:
    """Run commands of `ramda` in a bare directory that holds `out` alone."""
    environment = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(directory / "empty"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, json.dumps(commands)],
        cwd=directory, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines, _, outcomes = done.stderr.partition("OUTCOMES")
    assert "Traceback" not in lines
    return json.loads(outcomes)


def pruned(model: nn.Module, example: Any, directory: Path) -> Path:
    """Zero a third of every group, remove it, and save it where only the file is."""
    structure = discover(model.eval(), example)
    zero_(model, structure, choose(structure, 0.33))
    smaller, plan = remove(model, structure, identify(model, structure))
    (directory / "out").mkdir()
    save(smaller, plan, directory / "out" / "model.safetensors")
    return directory


def cnn() -> tuple[nn.Module, Any]:
    return timm.create_model("resnet18", num_classes=10), torch.randn(2, 3, 64, 64)


def vit() -> tuple[nn.Module, Any]:
    return timm.create_model("vit_tiny_patch16_224", num_classes=10), torch.randn(2, 3, 224, 224)


def encoder() -> tuple[nn.Module, Any]:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(vocab_size=99, dim=32, hidden_dim=64, n_layers=2, n_heads=4)
    ids = torch.randint(0, 99, (2, 11))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return DistilBertForSequenceClassification(config), inputs


def decoder() -> tuple[nn.Module, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=99, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    ids = torch.randint(0, 99, (2, 11))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    return LlamaForCausalLM(config), inputs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "kind", "name", "fits"),
    [
        (cnn, "timm", "ResNet", 1),
        (vit, "timm", "VisionTransformer", 1),
        (encoder, "hf", "DistilBertForSequenceClassification", 1),
        (decoder, "hf", "LlamaForCausalLM", 0),
    ],
)
def test_a_model_of_each_kind_goes_everywhere(
    build: Callable[[], tuple[nn.Module, Any]], kind: str, name: str, fits: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    other = "hf" if kind == "timm" else "timm"
    outcomes = elsewhere(
        pruned(*build(), tmp_path),
        *GRAPHS,
        f"export out --format {kind} --layout dense -o dense",
        f"export out --format {kind} -o smaller",
        f"export out --format {other} -o other",
        "verify out --trust-pt2",
    )
    assert list(outcomes.values()) == [name, 0, 0, 0, 0, fits, 1, 0]
    assert (tmp_path / "dense" / "config.json").is_file()
    assert (tmp_path / "smaller").exists() == (fits == 0)
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_file_of_ones_own_goes_everywhere(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "net.py").write_text(NET)
    command = [
        sys.executable,
        "-m",
        "ramda_cli",
        "prune",
        "net.py:Net",
        *PRUNE.split(),
        "-o",
        "out",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=here, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shutil.move(here / "out", there / "out")
    shutil.rmtree(here)
    outcomes = elsewhere(
        there, *GRAPHS, "export out --format timm -o other", "verify out --trust-pt2"
    )
    assert list(outcomes.values()) == ["GraphModel", 0, 0, 0, 1, 0]
    (there / "out" / "metrics.jsonl").write_text("")
    assert elsewhere(there, "verify out")["verify out"] == 3
