"""A pruned model in other formats, each written, read back and compared before it is kept."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from ramda_cli.errors import EquivalenceError, FileFormatError, ModelError, OutputError
from ramda_cli.export import export_onnx, export_torch
from ramda_cli.export.dense import dense_module, uniform_module
from ramda_cli.export.directories import loading_call, open_directory, write_directory
from ramda_cli.models.loaded import ModelSource
from ramda_cli.pipeline.probing import (
    Probed,
    check_model,
    check_onnx,
    check_torch_export,
    open_probed,
    running,
)
from ramda_cli.pipeline.verify import verdict_of
from ramda_cli.structure.export import ExampleInputs, with_batch
from ramda_cli.structure.running import runner
from ramda_cli.verification import Check, check_probe
from ramda_cli.verification.proof import FLOAT64_TOLERANCE

Format = Literal["onnx", "torch-export", "timm", "hf"]
Layout = Literal["per-layer", "dense"]


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

    format: Format
    batch: int | None = None
    opset: int | None = None
    half: bool = False
    layout: Layout = "per-layer"


@dataclass(frozen=True)
class Exported:
    """What was written, before it is kept.

    Attributes:
        checks: against the probe.
        loads_with: the call that loads it, with the path left open.
    """

    checks: tuple[Check, ...]
    loads_with: str


def export(
    path: Path, output: Path, settings: ExportSettings, *, overwrite: bool = False
) -> dict[str, object]:
    """Write a pruned model in another format, for which neither data nor network is needed.

    Args:
        path: a file that `save` wrote.
        output: the file to write, for timm and hf the directory.
        settings: the format and its options.
        overwrite: whether to replace what is there.

    Returns:
        `file`, `format`, `bytes`, `loads_with` and `checks` (name, passed, text).

    Raises:
        EquivalenceError: what was written computes something else; it is not kept.
        FileFormatError: the model's own file is damaged, or holds no probe.
        ModelError: timm or transformers does not load such a model by itself.
        OutputError: the output cannot be written, or is there already.
    """
    _check_free(path, output, settings, overwrite=overwrite)
    probed = open_probed(path)
    _check_sound(probed)
    probed.model.float()
    with _scratch(output) as scratch:
        try:
            exported = _WRITERS[settings.format](probed, scratch / output.name, settings)
        except OutputError as error:
            message = str(error).replace(str(scratch), str(output.parent))
            raise OutputError(message, hint="choose another --format or other options") from error
        _require(exported.checks)
        size = _move(scratch, output.parent)
    return {
        "file": str(output),
        "format": settings.format,
        "bytes": size,
        "loads_with": exported.loads_with.format(path=output),
        "checks": [asdict(verdict_of(check)) for check in exported.checks],
    }


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
    aliases, kept = probed.document["aliases"], probed.document["plan"]["kept"]
    smaller = probed.model.state_dict()
    if settings.layout == "dense":
        tied = {name: kept[first] for name, first in aliases.items() if first in kept}
        module = dense_module(source, smaller, {**kept, **tied})
    else:
        module, source = uniform_module(source, smaller)
    write_directory(module, source, target, details=probed.document["details"])
    plain = open_directory(source, target)
    check = check_probe(
        f"{target.name}, loaded by {settings.format} alone,",
        probed.probe,
        running(target, runner(plain, torch.float64)),
        dtype="float64",
        relative_tolerance=FLOAT64_TOLERANCE,
    )
    return Exported((check,), loading_call(source))


def _source(probed: Probed, format: Format) -> ModelSource:
    """Return the class that the loaded model is of, which loading has checked."""
    source = probed.document["source"]
    kind = {"timm": "timm", "hf": "huggingface"}.get(format)
    if probed.document["layout"] != "native" or source["kind"] != kind:
        raise ModelError(
            f"the model in {probed.path} is of no class that {format} has",
            hint="--format onnx and torch-export take any model",
        )
    return ModelSource(source["kind"], source["name"], source["arguments"])


_WRITERS: dict[Format, Callable[[Probed, Path, ExportSettings], Exported]] = {
    "onnx": _to_onnx,
    "torch-export": _to_torch_export,
    "timm": _to_directory,
    "hf": _to_directory,
}


def _example(probed: Probed, batch: int | None) -> ExampleInputs:
    inputs = probed.probe.inputs()
    return inputs if batch is None else with_batch(inputs, batch)


def _check_free(path: Path, output: Path, settings: ExportSettings, *, overwrite: bool) -> None:
    """Refuse an output that is there already, cannot be made, or is the model itself."""
    is_directory = settings.format in ("timm", "hf")
    hint = f"give the {'directory' if is_directory else 'file'} to write with -o"
    if output.exists() and output.is_dir() != is_directory:
        what = "directory" if output.is_dir() else "file"
        raise OutputError(f"output {output} is a {what}", hint=hint)
    if not output.parent.is_dir():
        raise OutputError(f"output {output} has no directory {output.parent}", hint=hint)
    if path.resolve() in (output.resolve(), (output / path.name).resolve()):
        raise OutputError(f"output {output} would replace the model itself", hint=hint)
    if overwrite or not output.exists() or (is_directory and not any(output.iterdir())):
        return
    raise OutputError(
        f"output {output} is there already",
        hint="choose another with -o, or replace it with --overwrite",
    )


def _check_sound(probed: Probed) -> None:
    wide, _ = check_model(probed)
    if not wide.passed:
        raise FileFormatError(
            f"{probed.path} does not give the outputs that it holds: {verdict_of(wide).text}",
            hint="copy it again; `ramda verify` shows what changed",
        )


def _require(checks: tuple[Check, ...]) -> None:
    for check in checks:
        if not check.passed:
            verdict = verdict_of(check)
            half = check.dtype == "float16"
            raise EquivalenceError(
                f"{verdict.name}: {verdict.text}",
                hint="export it without --fp16" if half else "nothing was kept; try another format",
            )


@contextlib.contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """Yield a directory on the same disk, which is gone afterwards with what is still in it."""
    try:
        with tempfile.TemporaryDirectory(prefix=".ramda-", dir=output.parent) as directory:
            yield Path(directory)
    except OSError as error:
        raise OutputError(
            f"cannot write {output}: {error.strerror}",
            hint="free some space, or choose another place with -o",
        ) from error


def _move(scratch: Path, target: Path) -> int:
    """Move every file to the same place under another directory; return their size in bytes."""
    size = 0
    for file in [file for file in scratch.rglob("*") if file.is_file()]:
        place = target / file.relative_to(scratch)
        place.parent.mkdir(exist_ok=True)
        size += file.stat().st_size
        os.replace(file, place)
    return size
