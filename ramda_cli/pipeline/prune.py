"""`ramda prune` as a straight line: load, discover, train, identify, remove, verify, export."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from ramda_cli.config.loading import dump_config
from ramda_cli.config.schema import RunConfig
from ramda_cli.data.bundle import DataBundle
from ramda_cli.errors import BenchError, ConfigError, Interrupted
from ramda_cli.export import load, require_onnx
from ramda_cli.models.loaded import (
    LoadedModel,
    SegmentPreprocessing,
    SpeechPreprocessing,
    TextPreprocessing,
)
from ramda_cli.observer import Observer
from ramda_cli.optimizers import Penalty, penalties
from ramda_cli.pipeline.cutting import Cut, at_rest, cut
from ramda_cli.pipeline.decisions import decide_training
from ramda_cli.pipeline.describing import describe
from ramda_cli.pipeline.devices import choose_device, device_name
from ramda_cli.pipeline.files import discarding_unproven, write_files
from ramda_cli.pipeline.fitting import Fit
from ramda_cli.pipeline.latency import measure_latency, plan_benchmark
from ramda_cli.pipeline.loading import load_run
from ramda_cli.pipeline.logbook import Logbook
from ramda_cli.pipeline.proving import recovered
from ramda_cli.pipeline.publishing import check_account, publish
from ramda_cli.pipeline.ranks import (
    choose_matrices,
    hold_channels,
    matrix_entries,
    spectra_of,
)
from ramda_cli.pipeline.resuming import (
    Earlier,
    find_earlier,
    finished_report,
    new_run,
    notes_on,
    require_same_data,
)
from ramda_cli.pipeline.stopping import StopRequest, stop_request
from ramda_cli.pipeline.summary import Outcome, reproducibility, summarize
from ramda_cli.pipeline.targets import asked, plan_target
from ramda_cli.pipeline.tracking import require_trackers
from ramda_cli.pipeline.workspace import Workspace
from ramda_cli.report.document import Latency
from ramda_cli.report.formatting import counted
from ramda_cli.structure import Structure, discover, input_channel_structure
from ramda_cli.structure.matrices import Matrix
from ramda_cli.tasks import is_recurrent
from ramda_cli.training.processes import Processes, join
from ramda_cli.training.randomness import is_random
from ramda_cli.training.regularizer import build_regularizer

_BENCH_SECONDS = 10.0


def prune(config: RunConfig, observer: Observer, *, resume: bool = False) -> dict[str, object]:
    """Run everything and return the report, which is also in the files.

    Nothing is written before the model, the data and the target are known to be usable.

    Args:
        config: of the run.
        observer: is told of it.
        resume: whether to go on with what an interrupted run of these settings left in the output
            directory. A finished one is returned as it is; without any the run begins.

    Raises:
        RamdaError: with the message, the hint and the exit code that the user meets.
    """
    processes = join()
    workspace = Workspace(config.output.directory, writes=processes.is_first)
    if resume and (document := finished_report(workspace, config)) is not None:
        observer.note(f"{workspace.directory} holds the finished run already")
        return document
    earlier = find_earlier(workspace, config) if resume else None
    if not resume:
        workspace.check_free(overwrite=config.output.overwrite)
    processes.wait()  # the first one is about to write what the others have looked at
    with Logbook(observer, workspace) as logbook, stop_request(logbook) as stop:
        try:
            return _prune(config, workspace, earlier, logbook, stop, processes)
        except KeyboardInterrupt as error:
            raise _interrupted(workspace) from error


def _interrupted(workspace: Workspace) -> Interrupted:
    directory = workspace.directory
    if not workspace.unfinished:
        return Interrupted("interrupted before anything was written", hint="run it again")
    return Interrupted(
        f"interrupted; {directory} is marked INCOMPLETE and holds no result",
        hint=f"`ramda prune --resume -o {directory}` goes on from the last checkpoint",
    )


def _prune(
    config: RunConfig,
    workspace: Workspace,
    earlier: Earlier | None,
    observer: Logbook,
    stop: StopRequest,
    processes: Processes,
) -> dict[str, object]:
    if config.output.push_to_hub is not None:
        check_account(config.output.push_to_hub)
    require_trackers(config.output.report_to)
    device = choose_device(config.training.device, processes.local_rank)
    _require_shareable(config, processes)

    observer.stage("load", config.model.name)
    loaded, data = load_run(config, observer)
    new_head = loaded.new_head
    if new_head and config.training.distill:
        raise ConfigError(
            "the head is new, so the dense model has nothing to teach",
            hint="train it on this data first, or leave out --distill",
        )
    _require_alone(config, data, processes)
    _require_lengths(config, loaded)
    if earlier is not None:
        require_same_data(earlier, data.fingerprint, workspace.directory)
    run = earlier.run if earlier is not None else new_run(config)
    run = replace(run, data=data.fingerprint, device=_device(device), processes=processes.count)
    if processes.several:
        data.train.take_part(processes.rank, processes.count)
    for note in () if earlier is None else notes_on(earlier, run):
        observer.note(note)
    notes = (*loaded.notes, *data.notes)
    for note in notes:
        observer.note(note)

    observer.stage("discover", "exporting")
    structure = discover(
        loaded.module,
        loaded.example_inputs,
        keep=config.structure.keep,
        residual=config.structure.residual,
    )
    settings = config.structure
    matrices = choose_matrices(loaded.module, settings.low_rank, keep=settings.keep)
    structure = hold_channels(structure, matrices)
    planned = plan_target(
        config, loaded, structure, device=device, observer=observer, matrices=matrices
    )
    spectra = spectra_of(loaded.module, matrices)
    training, decisions = decide_training(config, loaded, structure, data, device=device)
    for note in decisions:
        observer.note(note)
    notes = (*notes, *decisions, *planned.notes)
    cost = planned.cost
    penalized = _penalties(config, structure, loaded, matrices)
    found = [counted(len(structure.groups), "group")]
    found.append(counted(cost.size().channels, "channel"))
    if matrices:
        found.append(f"{counted(len(matrices), 'weight')} that may lose ranks")
    observer.stage("discover", ", ".join(found))

    free_length = isinstance(loaded.preprocessing, TextPreprocessing | SegmentPreprocessing)
    if config.output.onnx:
        observer.stage("export", "ONNX, to know that it can be done")
        require_onnx(loaded.module, loaded.example_inputs, free_length=free_length)
    details = describe(data.task, data.class_names, loaded.preprocessing, loaded.module)
    fit = Fit(
        loaded.module, structure, penalized, data, training,
        cost=cost, budget=planned.budget, details=details,
        device=device, workspace=workspace, observer=observer,
        run=run, checkpoint_seconds=60.0 * config.output.checkpoint_minutes,
        stop=stop, earlier=earlier, processes=processes,
    )  # fmt: skip
    take = partial(
        cut, loaded, structure, planned, config.structure,
        data=data, device=device, observer=observer,
    )  # fmt: skip
    if earlier is None:
        workspace.start()
        workspace.write_text("config.yaml", dump_config(config))
    else:
        workspace.go_on()
    observer.open()
    fit.prune()
    taken = take(ranks=fit.ranks)
    smaller, proven = taken.smaller, taken.proven
    if fit.epochs_left and _trains(taken, loaded):
        smaller = copy.deepcopy(smaller)  # it shares tensors with the trained model
        fit.recover(smaller, taken.plan)
        proven = recovered(proven, at_rest(smaller))
    elif fit.epochs_left:
        observer.note(
            "the smaller model runs as a graph, which has no dropout: the zeros stay until the end"
        )
        fit.go_on()
        taken = take(ranks=fit.ranks)
        smaller, proven = taken.smaller, taken.proven

    processes.wait()
    if not processes.is_first:
        return {}
    observer.stage("export", "model.safetensors")
    with discarding_unproven(workspace):
        files = write_files(
            workspace, smaller, taken.plan, proven,
            details=details, onnx=config.output.onnx, observer=observer,
            tokenizer=loaded.tokenizer, free_length=free_length,
            uniform=config.structure.layout == "uniform",
        )  # fmt: skip
        latency = _latency(config, workspace, taken.model, loaded, device, observer)
        outcome = Outcome(
            source=loaded.source, classes=loaded.num_classes, license=loaded.license,
            dense=taken.model, new_head=new_head, data=data, asked=asked(config),
            structure=structure, support=taken.support, cost=cost, budget=planned.budget,
            trained=fit.result(), files=files, latency=latency, lost=taken.lost,
            matrices=matrix_entries(matrices, taken.ranks, spectra, smaller, taken.dense),
            notes=(*notes, *taken.notes, *files.notes),
            again=reproducibility(
                run.config, seed=config.training.seed, device=run.device,
                command=run.command, date=run.date,
            ),
        )  # fmt: skip
        document = files.finish(lambda listed: summarize(outcome, listed))
    workspace.finish()
    if config.output.push_to_hub is not None:
        observer.stage("publish", config.output.push_to_hub)
        address = publish(
            workspace.directory, config.output.push_to_hub, public=config.output.public
        )
        observer.stage("publish", address)
    observer.stage("done", str(workspace.directory))
    return document


def _require_shareable(config: RunConfig, processes: Processes) -> None:
    """Refuse what several processes would find out differently, and what one cannot share."""
    if not processes.several:
        if config.training.shard:
            raise ConfigError(
                "training.shard spreads a model over several processes, and there is one",
                hint="start them with `torchrun --nproc-per-node 8 -m ramda_cli prune ...`",
            )
        return
    if config.training.auto_batch:
        raise ConfigError(
            "training.auto_batch looks at the memory of one process, and there are"
            f" {processes.count}",
            hint="leave it out; where memory is too small the error names the --batch-size and"
            " --accumulate that take the same steps",
        )
    if config.target is not None and config.target.latency is not None:
        raise ConfigError(
            "a target of latency is measured, and each process would measure another",
            hint="give --target macs=..., or train in one process",
        )


def _require_alone(config: RunConfig, data: DataBundle, processes: Processes) -> None:
    """Refuse what a model that hands a memory from batch to batch cannot be trained with."""
    training = config.training
    ways = {
        "several processes": processes.several,
        "training.precision fp16": training.precision == "fp16",
        "training.auto_batch": training.auto_batch,
        "training.distill": bool(training.distill),
        "training.shard": training.shard,
    }
    asked_for = next((way for way, chosen in ways.items() if chosen), None)
    if is_recurrent(data.task) and asked_for is not None:
        raise ConfigError(
            f"{asked_for} does not go with a model that has a memory", hint="leave it out"
        )


def _require_lengths(config: RunConfig, loaded: LoadedModel) -> None:
    """Refuse a graph where every input has another length, for which each step is written out."""
    if config.output.onnx and isinstance(loaded.preprocessing, SpeechPreprocessing):
        raise ConfigError(
            "ONNX takes speech of one length only: each frame depends on the one before",
            hint="give --no-onnx",
        )


def _trains(found: Cut, loaded: LoadedModel) -> bool:
    """Tell whether the smaller model trains as the larger one does: a graph has no dropout."""
    return found.plan.keeps_classes or not is_random(found.model, loaded.example_inputs)


def _device(device: torch.device) -> str:
    return f"{device} ({device_name(device)})"


def _penalties(
    config: RunConfig, structure: Structure, loaded: LoadedModel, matrices: Sequence[Matrix]
) -> list[Penalty]:
    regularizer = build_regularizer(config.training)
    if config.structure.penalize == "paper":
        alone = input_channel_structure(loaded.module, keep=config.structure.keep)
        return penalties(hold_channels(alone, matrices), regularizer)
    return penalties(structure, regularizer)


def _latency(
    config: RunConfig,
    workspace: Workspace,
    model: nn.Module,
    loaded: LoadedModel,
    device: torch.device,
    observer: Observer,
) -> Latency | None:
    """Time the model that the file loads as beside the trained one.

    A run that is proven does not fail because they cannot be timed. A target of latency is always
    checked.
    """
    timed = config.target is not None and config.target.latency is not None
    if not (config.output.bench or timed):
        return None
    plan = plan_benchmark(device, seconds=_BENCH_SECONDS, runtimes=("eager",))
    written = load(workspace.path("model.safetensors"))
    try:
        return measure_latency(model, written, loaded.example_inputs, plan, observer)
    except BenchError as error:
        observer.note(f"the latency was not measured: {error}")
        return None
