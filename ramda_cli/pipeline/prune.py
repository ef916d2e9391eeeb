"""`ramda prune` as a straight line: load, discover, train, identify, remove, verify, export."""

import shlex
import sys

import numpy as np
import torch
from torch import nn

from ramda_cli.config.loading import dump_config
from ramda_cli.config.schema import RunConfig
from ramda_cli.data.build import build_data
from ramda_cli.data.bundle import DataBundle
from ramda_cli.errors import BenchError, ConfigError, StructureError, TargetError
from ramda_cli.export import load
from ramda_cli.latency import measure_table
from ramda_cli.models.heads import adapt_head
from ramda_cli.models.loaded import LoadedModel
from ramda_cli.models.loading import load_model
from ramda_cli.observer import Observer
from ramda_cli.optimizers import Penalty, penalties
from ramda_cli.pipeline.devices import choose_device, device_name
from ramda_cli.pipeline.files import discarding_unproven, write_files
from ramda_cli.pipeline.fitting import fit, keeping_interrupted_weights
from ramda_cli.pipeline.latency import measure_latency, plan_benchmark
from ramda_cli.pipeline.proving import prove
from ramda_cli.pipeline.publishing import check_account, publish
from ramda_cli.pipeline.summary import Outcome, summarize
from ramda_cli.pipeline.workspace import Workspace
from ramda_cli.regularizers import GroupLasso
from ramda_cli.report.document import Latency
from ramda_cli.structure import (
    Structure,
    Support,
    discover,
    identify,
    input_channel_structure,
)
from ramda_cli.structure.cost import CostModel
from ramda_cli.structure.widths import Widths, hold_back, plan_widths
from ramda_cli.surgery import remove
from ramda_cli.training import Budget, plan_budget

_BENCH_SECONDS = 10.0


def prune(config: RunConfig, observer: Observer) -> dict[str, object]:
    """Run everything and return the report, which is also in the files.

    Nothing is written before the model, the data and the target are known to be usable.

    Raises:
        RamdaError: with the message, the hint and the exit code that the user meets.
    """
    workspace = Workspace(config.output.directory)
    workspace.check_free(overwrite=config.output.overwrite)
    if config.output.push_to_hub is not None:
        check_account(config.output.push_to_hub)
    device = choose_device(config.training.device)

    observer.stage("load", config.model.name)
    loaded, data, new_head = _load(config)
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
    cost = CostModel(structure)
    widths = plan_widths(
        structure.groups,
        round_to=config.structure.round_to,
        uniform=config.structure.layout == "uniform",
    )
    if config.target is not None and config.target.latency is not None:
        notes += (_add_latency(cost, loaded, structure, config, device, observer),)
    budget = _budget(config, structure, cost, widths)
    penalized = _penalties(config, structure, loaded)
    observer.stage("discover", f"{len(structure.groups)} groups, {cost.size().channels:,} channels")

    workspace.start()
    workspace.write_text("config.yaml", dump_config(config))
    with keeping_interrupted_weights(workspace, loaded.module):
        trained = fit(
            loaded.module, structure, penalized, data, config.training,
            cost=cost, budget=budget, device=device, workspace=workspace, observer=observer,
        )  # fmt: skip
        model = loaded.module.to("cpu").to(memory_format=torch.contiguous_format).eval()

        observer.stage("remove", "zero channels")
        found = identify(model, structure)
        support = hold_back(found, structure.groups, widths)
        notes = (*notes, *_held_for_widths(found, support, cost))
        size = cost.size(cost.kept(support.removable))
        _require_reached(budget, cost, support)
        smaller, plan = remove(model, structure, support, source=loaded.source)
        smaller.eval()
        observer.stage("remove", f"{cost.size().channels - size.channels:,} channels")

        observer.stage("verify", "float64 and float32")
        proven = prove(model, smaller, data)
        observer.stage("verify", f"difference {proven.proof.max_abs_difference:.1e} in float64")

        observer.stage("export", "model.safetensors")
        with discarding_unproven(workspace):
            files = write_files(
                workspace, smaller, plan, proven, loaded=loaded, data=data,
                onnx=config.output.onnx, observer=observer,
            )  # fmt: skip
            latency = _latency(config, workspace, model, loaded, device, observer)
            outcome = Outcome(
                loaded, data, structure, support, cost, budget, trained, files, new_head, notes,
                _device(device), shlex.join(["ramda", *sys.argv[1:]]), latency,
            )  # fmt: skip
            document = files.finish(lambda listed: summarize(config, outcome, listed))
        workspace.finish()
    if config.output.push_to_hub is not None:
        observer.stage("publish", config.output.push_to_hub)
        address = publish(
            workspace.directory, config.output.push_to_hub, public=config.output.public
        )
        observer.stage("publish", address)
    observer.stage("done", str(workspace.directory))
    return document


def _load(config: RunConfig) -> tuple[LoadedModel, DataBundle, bool]:
    """Load model and data, fit the head to the classes, and return whether it is a new one."""
    seed = config.training.seed
    torch.manual_seed(seed)
    loaded = load_model(config.model, image_size=config.data.image_size, seed=seed)
    data = build_data(config.data, loaded.preprocessing, seed=seed)
    fitted = adapt_head(loaded, len(data.class_names), seed=seed)
    return fitted, data, fitted is not loaded


def _budget(
    config: RunConfig, structure: Structure, cost: CostModel, widths: Widths
) -> Budget | None:
    if not structure.groups:
        raise StructureError(
            f"nothing in {config.model.name} can be removed",
            hint=f"`ramda inspect {config.model.name}` lists every fixed channel and its reason",
        )
    if config.target is None:
        return None
    if config.structure.penalize != "consumers":
        raise ConfigError(
            "a target needs the coupled groups of --penalize consumers",
            hint="the paper's single-tensor groups go with --weight",
        )
    return plan_budget(cost, config.target, floor=config.structure.floor, widths=widths)


def _add_latency(
    cost: CostModel,
    loaded: LoadedModel,
    structure: Structure,
    config: RunConfig,
    device: torch.device,
    observer: Observer,
) -> str:
    """Measure what operators take and make it a cost; return how well the fit is met."""
    one = tuple(images[:1] for images in loaded.example_inputs)
    floor = np.ceil(config.structure.floor * cost.channels).astype(np.int64)
    table = measure_table(
        loaded.module.to(device), structure, one,
        device=device, floor=floor, observer=observer, seed=config.training.seed,
    )  # fmt: skip
    cost.add("latency", table.products)
    return (
        f"the latency table is off by at most {100 * max(map(abs, table.errors)):.0f} % for"
        f" {len(table.errors)} models of random widths that it has not seen"
    )


def _held_for_widths(found: Support, support: Support, cost: CostModel) -> tuple[str, ...]:
    """Tell what the allowed widths cost where they kept channels that are zero."""
    kept, free = cost.kept(support.removable), cost.kept(found.removable)
    channels = round(float((kept - free).sum()))
    if channels == 0:
        return ()
    share = (cost.macs(kept) - cost.macs(free)) / max(1, cost.macs(cost.channels))
    return (
        f"{channels:,} zero channels stay for the sake of the widths: {100 * share:.1f} % of the"
        " dense MACs",
    )


def _require_reached(budget: Budget | None, cost: CostModel, support: Support) -> None:
    for limit in () if budget is None else budget.limits:
        left = cost.measure(limit.metric, cost.kept(support.removable))
        if left > limit.count:
            raise TargetError(
                f"{left:,} {limit.metric} are left, {limit.count:,} were asked",
                hint="train longer with --epochs, or ask for less",
            )


def _device(device: torch.device) -> str:
    return f"{device} ({device_name(device)})"


def _penalties(config: RunConfig, structure: Structure, loaded: LoadedModel) -> list[Penalty]:
    # With a target the zero set follows the budget, and the weight plays no part.
    regularizer = GroupLasso(config.training.weight or 0.0)
    if config.structure.penalize == "paper":
        return penalties(input_channel_structure(loaded.module), regularizer)
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

    A run that is proven does not fail because they cannot be timed.
    """
    if not config.output.bench:
        return None
    plan = plan_benchmark(device, seconds=_BENCH_SECONDS, runtimes=("eager",))
    written = load(workspace.path("model.safetensors"))
    try:
        return measure_latency(model, written, loaded.example_inputs, plan, observer)
    except BenchError as error:
        observer.note(f"the latency was not measured: {error}")
        return None
