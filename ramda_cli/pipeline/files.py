"""Writing the result, reading it back, and comparing what was read with the trained model."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ramda_cli.errors import EquivalenceError, ModelError
from ramda_cli.export import OnnxModel, export_onnx, load, read_tensors, save
from ramda_cli.export.dense import uniform_module
from ramda_cli.export.directories import open_directory
from ramda_cli.models.loaded import ModelSource
from ramda_cli.observer import Observer
from ramda_cli.pipeline.proving import Proven, require
from ramda_cli.pipeline.workspace import Workspace
from ramda_cli.report.document import FileEntry, Report, without_times
from ramda_cli.report.html import render_html
from ramda_cli.report.model_card import render_card
from ramda_cli.report.plain import build_report
from ramda_cli.structure.running import outputs_of, runner
from ramda_cli.surgery import RemovalPlan
from ramda_cli.tasks import of_targets, without_targets
from ramda_cli.tasks.inputs import ExampleInputs
from ramda_cli.training import evaluate_outputs
from ramda_cli.verification import Check, Proof, compare
from ramda_cli.verification.proof import FLOAT64_TOLERANCE, WORKING_TOLERANCE

_MODEL = "model.safetensors"
_ONNX = "model.onnx"


@dataclass(frozen=True, eq=False)
class WrittenFiles:
    """The files of a run, proven; `finish` adds the report.

    Attributes:
        workspace: where they are.
        smaller: what they hold.
        plan: how it was made.
        details: facts in the header.
        layout: `native` or `graph`.
        alone: whether the model's own library loads the directory without RAMDA.
        proven: with the checks of the files added to the proof.
        reloaded, onnx: the metric of what was read back.
        notes: what the configuration cannot say, in sentences for the user.
    """

    workspace: Workspace
    smaller: nn.Module
    plan: RemovalPlan
    details: dict[str, Any]
    layout: str
    alone: bool
    proven: Proven
    reloaded: float | None
    onnx: float | None
    notes: tuple[str, ...] = ()

    def finish(self, summarize: Callable[[tuple[FileEntry, ...]], Report]) -> dict[str, object]:
        """Put the report into the header and beside the model; the tensors stay as proven.

        Raises:
            EquivalenceError: the tensors of the final file are not those that were proven.
        """
        path = self.workspace.path(_MODEL)
        others = tuple(entry for entry in self.workspace.files() if entry.name != _MODEL)
        proven = read_tensors(path)
        # The same run again gives the same file, byte by byte: when and how long is left out.
        timeless = build_report(without_times(summarize(others)))
        save(self.smaller, self.plan, path, details=self.details, report=timeless)
        final = read_tensors(path)
        if final.keys() != proven.keys() or any(
            not torch.equal(final[name], tensor) for name, tensor in proven.items()
        ):
            raise EquivalenceError(
                f"{path} changed while its report was written", hint="run it again on a sound disk"
            )
        document = build_report(summarize(self.workspace.files()))
        self.workspace.write_text("report.json", json.dumps(document, indent=2) + "\n")
        self.workspace.write_text("report.html", render_html(document))
        self.workspace.write_text("README.md", render_card(document, self.details))
        return document


def write_files(
    workspace: Workspace,
    smaller: nn.Module,
    plan: RemovalPlan,
    proven: Proven,
    *,
    details: Mapping[str, Any],
    onnx: bool,
    observer: Observer,
    tokenizer: Any = None,
    free_length: bool = False,
    uniform: bool = False,
) -> WrittenFiles:
    """Write the safetensors and the ONNX file, and prove each by what it gives when read back.

    `details` are facts for the header: task, labels, preprocessing. A tokenizer travels along. With
    `free_length` the ONNX file takes texts of any length.
    With `uniform` widths a configuration of transformers does, where it can say them.

    Raises:
        EquivalenceError: a file does not compute what the trained model computes.
        OutputError: a file cannot be written.
    """
    if tokenizer is not None:
        with workspace.writing(workspace.directory):
            tokenizer.save_pretrained(str(workspace.directory))
    layout = save(smaller, plan, workspace.path(_MODEL), details=details)
    batches, data = proven.batches, proven.data
    reloaded = load(workspace.path(_MODEL))
    checks = [_check_reloaded(proven.model, reloaded, batches)]
    reloaded_metric, onnx_metric = proven.measure(reloaded), None
    source, notes = _write_configuration(workspace, smaller, plan) if uniform else (None, ())
    for note in notes:
        observer.note(note)
    if source is not None:
        plain = open_directory(source, workspace.directory)
        checks.append(
            _check_reloaded(proven.model, plain, batches, "the directory, by its library")
        )
    if onnx:
        observer.stage("export", _ONNX)
        given = without_targets(batches)
        export_onnx(smaller, workspace.path(_ONNX), given[0], free_length=free_length)
        run = OnnxModel(workspace.path(_ONNX))
        checks.append(_check_onnx(proven.model, run, given))
        if data is not None:
            onnx_metric = evaluate_outputs(of_targets(run.on), data.task, data.val)
    observer.stage("export", "written, read back and compared")
    proof = Proof((*proven.proof.checks, *checks))
    return WrittenFiles(
        workspace, smaller, plan, dict(details), layout, source is not None,
        replace(proven, proof=proof), reloaded_metric, onnx_metric, notes,
    )  # fmt: skip


@contextlib.contextmanager
def discarding_unproven(workspace: Workspace) -> Iterator[None]:
    """Leave no model file behind when one of them does not compute what it should."""
    try:
        yield
    except EquivalenceError:
        workspace.discard_results()
        raise


def _write_configuration(
    workspace: Workspace, smaller: nn.Module, plan: RemovalPlan
) -> tuple[ModelSource | None, tuple[str, ...]]:
    """Write a `config.json` that says the smaller widths.

    Returns:
        The class that loads it, None where there is none, and sentences for the user.
    """
    source = plan.source
    if source is None or source.kind != "huggingface" or plan.layout != "native":
        return None, ()
    try:
        module, _ = uniform_module(source, smaller.state_dict())
    except ModelError as error:
        return None, (f"transformers alone does not load the result: {error}",)
    library: Any = module
    with workspace.writing(workspace.directory):
        library.config.architectures = [source.name]
        library.config.save_pretrained(str(workspace.directory))
        if library.can_generate():
            written: Any = smaller
            # As it is: its own way of saving refuses settings that transformers itself reads.
            settings = json.dumps(written.generation_config.to_diff_dict(), indent=2)
            workspace.write_text("generation_config.json", settings + "\n")
    return source, ()


def _check_reloaded(
    model: nn.Module,
    reloaded: nn.Module,
    batches: list[ExampleInputs],
    name: str = "model.safetensors loaded afresh",
) -> Check:
    check = compare(
        name,
        runner(model, torch.float64),
        runner(reloaded, torch.float64),
        batches,
        dtype="float64",
        relative_tolerance=FLOAT64_TOLERANCE,
    )
    require((check,))
    return check


def _check_onnx(
    model: nn.Module,
    run: OnnxModel,
    batches: list[ExampleInputs],
) -> Check:
    check = compare(
        "model.onnx in ONNX Runtime",
        lambda batch: outputs_of(model, batch),
        run.on,
        batches,
        dtype="float32",
        relative_tolerance=WORKING_TOLERANCE,
    )
    require((check,))
    return check
