"""Small models with channels to remove, and files to damage."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ramda_cli.models.loaded import ModelSource
from ramda_cli.structure import discover, identify, zero_
from ramda_cli.surgery import RemovalPlan, remove
from tests.structure.exactness import choose


class Plain(nn.Module):
    """A class that only this file knows, with a tied weight, a buffer and a number in its code."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 3, padding=1)
        self.norm = nn.BatchNorm2d(10)
        self.mix = nn.Linear(10, 16)
        self.encode = nn.Linear(16, 16, bias=False)
        self.decode = nn.Linear(16, 16, bias=False)
        self.decode.weight = self.encode.weight
        self.fc = nn.Linear(16, 5)
        self.register_buffer("scale", torch.full((), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu().mean(dim=(2, 3))
        x = self.mix(x).relu()
        return self.fc(self.decode(self.encode(x).relu())) * self.scale


class Several(nn.Module):
    """Two inputs by name, and outputs in a dictionary, a tuple and a list."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = nn.Embedding(9, 8)
        self.left = nn.Linear(6, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor, ids: Tensor) -> dict[str, Any]:
        hidden = (self.left(x) + self.ids(ids)).relu()
        return {"logits": self.out(hidden), "rest": (x * 2, [ids + 1])}


@dataclass(frozen=True)
class Case:
    """A trained model, the smaller one, and an example."""

    model: nn.Module
    smaller: nn.Module
    plan: RemovalPlan
    example: Any


def shrunk(model: nn.Module, example: Any, *, source: ModelSource | None = None) -> Case:
    """Remove a third of the channels of every group."""
    structure = discover(model.eval(), example)
    assert structure.groups
    zero_(model, structure, choose(structure, 0.33))
    smaller, plan = remove(model, structure, identify(model, structure), source=source)
    return Case(model, smaller, plan, example)


def resnet() -> Case:
    model = timm.create_model("resnet10t", num_classes=7)
    return shrunk(model, torch.randn(2, 3, 64, 64))


def vit() -> Case:
    arguments = {"depth": 2, "img_size": [32, 32], "num_classes": 7}
    model = timm.create_model("vit_tiny_patch16_224", **arguments)
    source = ModelSource("timm", "vit_tiny_patch16_224", arguments)
    return shrunk(model, torch.randn(2, 3, 32, 32), source=source)


def vit_graph() -> Case:
    """The same, but nobody knows how it was built."""
    model = timm.create_model("vit_tiny_patch16_224", depth=2, img_size=32, num_classes=7)
    return shrunk(model, torch.randn(2, 3, 32, 32))


def plain() -> Case:
    return shrunk(Plain(), torch.randn(2, 3, 8, 8))


def several() -> Case:
    return shrunk(Several(), {"x": torch.randn(2, 6), "ids": torch.tensor([3, 8])})


CASES: dict[str, tuple[Callable[[], Case], str]] = {
    "resnet": (resnet, "native"),
    "vit": (vit, "native"),
    "vit without source": (vit_graph, "graph"),
    "own class": (plain, "graph"),
    "several inputs": (several, "graph"),
}


def document_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["ramda"])


def rewrite(
    path: Path,
    *,
    document: Callable[[dict[str, Any]], object] = lambda _: None,
    tensors: Callable[[dict[str, Tensor]], object] = lambda _: None,
) -> Path:
    """Write a changed copy of a file: `document` and `tensors` change it in place."""
    changed, held = document_of(path), load_file(path)
    document(changed)
    tensors(held)
    copied = path.with_name("changed.safetensors")
    metadata = {"format": "pt", "ramda_format": "1", "ramda": json.dumps(changed)}
    save_file(held, copied, metadata=metadata)
    return copied
