"""How fast a pruned model is, in turns with the dense one that its file names."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import nn

import ramda_cli
from ramda_cli.benchmark import Runtime
from ramda_cli.errors import ConfigError, FileFormatError, ModelError
from ramda_cli.export import build_dense, load, read_probe
from ramda_cli.file_header import read_header
from ramda_cli.models.files import call_factory, is_file_model, load_factory
from ramda_cli.models.heads import replace_head_
from ramda_cli.models.loaded import Preprocessing
from ramda_cli.models.randomness import example_images, example_masked_images
from ramda_cli.observer import Observer
from ramda_cli.pipeline.describing import read_description
from ramda_cli.pipeline.devices import choose_device
from ramda_cli.pipeline.latency import measure_latency, plan_benchmark
from ramda_cli.report.benchmark import Benchmark
from ramda_cli.report.plain import build_benchmark
from ramda_cli.structure.running import outputs_of
from ramda_cli.tasks.inputs import ExampleInputs

_ALONE = (
    "the file does not say how its dense model is built, so the pruned model is measured alone;"
    " name it with --dense path/to/file.py:factory"
)


def bench(
    path: Path,
    *,
    observer: Observer,
    device: str = "auto",
    runtimes: Sequence[Runtime] = (),
    batch_sizes: Sequence[int] = (),
    threads: int | None = None,
    seconds: float = 20.0,
    dense: str | None = None,
) -> dict[str, object]:
    """Measure a pruned model beside the dense one.

    The dense model is built from what the file says of it, with random weights: speed does not see
    them. `dense` names it instead as `path/to/file.py:factory`, whose code is run. What is not
    given is filled in by `plan_benchmark`.

    Raises:
        FileFormatError, ModelError: the file or the dense model cannot be built.
        BenchError: a model cannot be run.
    """
    plan = plan_benchmark(
        choose_device(device),
        seconds=seconds, runtimes=runtimes, batch_sizes=batch_sizes, threads=threads,
    )  # fmt: skip
    observer.stage("load", str(path))
    document = read_header(path)
    pruned = load(path)
    inputs = example_inputs(path, document)
    notes = []
    if dense is None:
        whole = build_dense(path)
    else:
        whole = _from_factory(dense, _replaced_head(document), pruned, inputs)
        notes.append(f"loading {dense} ran the Python code of that file")
    if whole is None:
        notes.append(_ALONE)
    for note in notes:
        observer.note(note)
    latency = measure_latency(whole, pruned, inputs, plan, observer)
    return build_benchmark(
        Benchmark(
            file=str(path),
            dense=None if whole is None else dense or document["source"]["name"],
            latency=latency,
            versions={
                "ramda": ramda_cli.__version__,
                "torch": torch.__version__,
                "onnxruntime": onnxruntime.__version__,
            },
            date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            notes=tuple(notes),
        )
    )


def example_inputs(path: Path, document: Mapping[str, Any]) -> ExampleInputs:
    """Return inputs that the model of a file takes: those of its probe, or images of its size.

    Raises:
        FileFormatError: it says nothing of them.
    """
    probe = read_probe(document)
    if probe is not None:
        return probe.inputs()
    preprocessing = read_description(path, document.get("details")).preprocessing
    if not isinstance(preprocessing, Preprocessing):
        raise FileFormatError(f"{path} holds no probe", hint="write it again with `ramda prune`")
    if preprocessing.masking is not None:
        return example_masked_images(preprocessing, preprocessing.masking)
    return (example_images(preprocessing.input_size),)


def _from_factory(
    name: str, head: str | None, pruned: nn.Module, inputs: ExampleInputs
) -> nn.Module:
    """Run the user's factory; where training replaced its head, replace it again.

    Raises:
        ConfigError, ModelError: the name, the file, the factory or its module is not usable.
    """
    if not is_file_model(name):
        raise ConfigError(
            f"--dense must be path/to/file.py:factory, got {name!r}",
            hint="other models are built from the file alone: leave it out",
        )
    factory, _ = load_factory(name)
    module = call_factory(factory, name).float()
    if head is not None:
        classes = outputs_of(pruned, inputs)[0].shape[-1]
        try:
            replace_head_(module, head, classes)
        except (AttributeError, ValueError) as error:
            raise ModelError(
                f"{name} has no layer {head}, the head that training replaced",
                hint="name the factory that the pruned model was made from",
            ) from error
    return module.eval()


def _replaced_head(document: Mapping[str, Any]) -> str | None:
    """Return the layer of a factory's module that had the wrong number of classes."""
    match document.get("source"):
        case {"kind": "file", "arguments": {"head": str() as head}}:
            return head
    return None
