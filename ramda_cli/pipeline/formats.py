"""What a pruned model is exported to: how each format is written and compared."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from ramda_cli.config.schema import ExportFormat, ExportLayout
from ramda_cli.errors import ModelError
from ramda_cli.export import export_onnx, export_torch
from ramda_cli.export.dense import dense_module, uniform_module
from ramda_cli.export.directories import loading_call, open_directory, write_directory
from ramda_cli.models.loaded import ModelSource
from ramda_cli.pipeline.describing import read_description
from ramda_cli.pipeline.probing import (
    Probed,
    check_onnx,
    check_torch_export,
    inputs_of_batch,
    running,
)
from ramda_cli.structure.running import runner
from ramda_cli.tasks.inputs import ExampleInputs
from ramda_cli.verification import Check, check_probe
from ramda_cli.verification.proof import FLOAT64_TOLERANCE, WORKING_TOLERANCE

_LIBRARY: Final[dict[ExportFormat, str]] = {"timm": "timm", "hf": "transformers"}


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """How to export.

    Attributes:
        format: what to write.
        batch: the only batch size to take; free by default. Of graphs.
        opset: of ONNX.
        half: whether ONNX computes in half precision.
        layout: of a directory: the smaller tensors, or dense ones with zeros.
    """

    format: ExportFormat
    batch: int | None = None
    opset: int | None = None
    half: bool = False
    layout: ExportLayout = "per-layer"


@dataclass(frozen=True)
class Exported:
    """What was written, before it is kept.

    Attributes:
        checks: against the probe.
        loads_with: the call that loads it, with the path left open.
    """

    checks: tuple[Check, ...]
    loads_with: str


def _to_onnx(probed: Probed, target: Path, settings: ExportSettings) -> Exported:
    inputs = _example(probed, settings.batch)
    fixed = settings.batch is not None
    export_onnx(
        probed.model, target, inputs,
        opset=settings.opset, fixed=fixed, half=settings.half,
    )  # fmt: skip
    return Exported(check_onnx(probed, target), 'onnxruntime.InferenceSession("{path}")')


def _to_torch_export(probed: Probed, target: Path, settings: ExportSettings) -> Exported:
    inputs, fixed = _example(probed, settings.batch), settings.batch is not None
    export_torch(probed.model, target, inputs, fixed=fixed)
    return Exported(check_torch_export(probed, target), 'torch.export.load("{path}").module()')


def _to_directory(probed: Probed, target: Path, settings: ExportSettings) -> Exported:
    source = _source(probed, settings.format)
    aliases, kept = _mapping(probed.document, "aliases"), _mapping(probed.document, "plan", "kept")
    smaller, ranks = probed.model.state_dict(), _mapping(probed.document, "ranks")
    if settings.layout == "dense":
        tied = {name: kept[first] for name, first in aliases.items() if first in kept}
        module = dense_module(source, smaller, {**kept, **tied}, ranks)
    else:
        module, source = uniform_module(source, smaller)
    write_directory(module, source, target, **_described(probed))
    plain = open_directory(source, target)
    check = check_probe(
        f"{target.name}, loaded by {_LIBRARY[settings.format]} alone,",
        probed.probe,
        running(target, runner(plain, torch.float64)),
        dtype="float64",
        # A product of two factors is rounded to their precision.
        relative_tolerance=WORKING_TOLERANCE if ranks else FLOAT64_TOLERANCE,
    )
    return Exported((check,), loading_call(source))


def _described(probed: Probed) -> dict[str, Any]:
    """Return what the file says of images and classes, where it does."""
    details = _mapping(probed.document, "details")
    if "preprocessing" not in details:
        return {"preprocessing": {}, "labels": ()}
    found = read_description(probed.path, details)
    return {"preprocessing": asdict(found.preprocessing), "labels": list(found.labels)}


def _mapping(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    for key in keys:
        found = document.get(key)
        document = found if isinstance(found, dict) else {}
    return document


def _source(probed: Probed, format: ExportFormat) -> ModelSource:
    """Return the class that the loaded model is of, which loading has checked."""
    source = probed.document["source"]
    kind = {"timm": "timm", "hf": "huggingface"}.get(format)
    if probed.document["layout"] != "native" or source["kind"] != kind:
        raise ModelError(
            f"the model in {probed.path} is of no class that {_LIBRARY[format]} has",
            hint="--format onnx and torch-export take any model",
        )
    return ModelSource(source["kind"], source["name"], source["arguments"])


def _example(probed: Probed, batch: int | None) -> ExampleInputs:
    return probed.probe.inputs() if batch is None else inputs_of_batch(probed, batch)


WRITERS: dict[ExportFormat, Callable[[Probed, Path, ExportSettings], Exported]] = {
    "onnx": _to_onnx,
    "torch-export": _to_torch_export,
    "timm": _to_directory,
    "hf": _to_directory,
}
