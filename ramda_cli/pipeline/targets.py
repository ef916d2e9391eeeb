"""From the size that a user asks for to a budget, and back: whether it was reached."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ramda_cli.config.schema import RunConfig
from ramda_cli.errors import ConfigError, StructureError, TargetError
from ramda_cli.latency import LatencyTable, measure_table
from ramda_cli.models.loaded import LoadedModel
from ramda_cli.observer import Observer, SilentObserver
from ramda_cli.pipeline.latency import Stopwatch, measure_latency, plan_benchmark
from ramda_cli.pipeline.native_widths import families_of_settings
from ramda_cli.report.document import Asked, Latency, Reached
from ramda_cli.report.formatting import counted
from ramda_cli.structure import Structure, Support
from ramda_cli.structure.cost import CostModel
from ramda_cli.structure.matrices import Matrix
from ramda_cli.structure.size_terms import Counts
from ramda_cli.structure.widths import Widths, plan_widths, with_ranks
from ramda_cli.tasks.inputs import in_parts
from ramda_cli.training import Budget, Limit, Measure, plan_budget

_CLOSE = 0.1
"""How far above the asked one a measured latency still meets it."""

_DENSE_SECONDS = 4.0

_OF_MACS = (
    "the latency is taken to follow the MACs until the ranks are final; then the smaller model is"
    " timed, and the choice corrected"
)


@dataclass(frozen=True, eq=False)
class Planned:
    """What is to be reached.

    Attributes:
        cost: of the model, over the kept channels.
        widths: which groups of channels may have.
        budget: None where a regularization weight was given in place of a target.
        notes: sentences for the user.
    """

    cost: CostModel
    widths: Widths
    budget: Budget | None
    notes: tuple[str, ...] = ()


def plan_target(
    config: RunConfig,
    loaded: LoadedModel,
    structure: Structure,
    *,
    device: torch.device,
    observer: Observer,
    matrices: Sequence[Matrix] = (),
) -> Planned:
    """Turn a request into a budget; a target of latency is measured for first.

    Args:
        config: of the run.
        loaded: the model.
        structure: of it.
        device: where latency is measured.
        observer: is told of that.
        matrices: weights that may lose ranks.

    Raises:
        StructureError: nothing can be removed.
        ConfigError: the groups do not go with a target.
        TargetError: a target cannot be reached.
    """
    # The paper's groups are of one tensor each: they are there where no channel is.
    if not structure.groups and not matrices and config.structure.penalize != "paper":
        raise StructureError(
            f"nothing in {config.model.name} can be removed",
            hint=f"`ramda inspect {config.model.name}` lists every fixed channel and its reason",
        )
    cost = CostModel(structure, matrices)
    settings, target = config.structure, config.target
    uniform = settings.layout == "uniform"
    families = families_of_settings(loaded.source, structure.groups) if uniform else None
    widths = plan_widths(
        structure.groups, round_to=settings.round_to, uniform=uniform, families=families
    )
    notes = _unsaid(families or {}, loaded)
    if target is None:
        return Planned(cost, widths, None, notes)
    if settings.penalize != "consumers":
        raise ConfigError(
            "a target needs the coupled groups of --penalize consumers",
            hint="the paper's single-tensor groups go with --weight",
        )
    references: dict[str, float] = {}
    measured: dict[str, Measure] = {}
    if target.latency is not None:
        if matrices:
            dense_ns = _add_latency_of_macs(cost, loaded, device, observer)
            notes = (*notes, _OF_MACS)
        else:
            table = _add_latency(cost, config, loaded, structure, device, observer)
            dense_ns = table.dense_ns
            notes = (*notes, _describe(table))
        # Dense widths suit hardware better than what was fitted: a share is of what was measured.
        references["latency"] = dense_ns
        measured["latency"] = Stopwatch(
            copy.deepcopy(loaded.module).cpu().eval(), structure, loaded.example_inputs, device,
            dense_ns=dense_ns if target.latency <= 1 else None, observer=observer,
            matrices=cost.matrices,
        )  # fmt: skip
    every = with_ranks(widths, matrices, round_to=settings.round_to) if matrices else widths
    budget = plan_budget(
        cost, target,
        floor=settings.floor, widths=every, references=references, measured=measured,
    )  # fmt: skip
    return Planned(cost, widths, budget, notes)


def _unsaid(families: Mapping[str, str], loaded: LoadedModel) -> tuple[str, ...]:
    """Tell which groups stay because the configuration has no setting for their width."""
    whole = [name for name, family in families.items() if not family]
    if not whole:
        return ()
    return (
        f"{counted(len(whole), 'group')} stay as they are, {whole[0]} for one: the configuration of"
        f" {loaded.source.name} has no setting for their width; --layout per-layer takes of them"
        " too",
    )


def asked(config: RunConfig) -> Asked:
    """Return the report's entry for the request."""
    amounts = {} if config.target is None else config.target.amounts
    metric = next(iter(amounts), None)
    return Asked(
        metric=metric,
        amount=None if metric is None else amounts[metric],
        amounts=amounts,
        weight=config.training.weight,
        regularizer=None if config.target else config.training.regularizer,
        low_rank=config.structure.low_rank,
        rank_weight=None
        if config.target or not config.structure.low_rank
        else config.training.nuclear_weight,
        round_to=config.structure.round_to,
        layout=config.structure.layout,
    )


def held_for_widths(found: Support, support: Support, cost: CostModel) -> tuple[str, ...]:
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


def require_reached(planned: Planned, kept: Counts) -> None:
    """Refuse a result of these channels and ranks that is larger than what was asked for.

    Raises:
        TargetError: it is.
    """
    for limit in () if planned.budget is None else planned.budget.limits:
        if limit.measured is not None:
            continue  # the estimate may say more; the benchmark at the end has the last word
        left = planned.cost.measure(limit.metric, kept)
        if left > limit.count:
            raise TargetError(
                f"{left:,} {limit.metric} are left, {limit.count:,} were asked",
                hint="train longer with --epochs, or ask for less",
            )


def reached(limit: Limit, count: int) -> Reached:
    """Return the report's entry for a target that is counted."""
    return Reached(
        metric=limit.metric,
        share=count / limit.dense,
        count=count,
        requested_count=limit.count,
        relative_deviation=(count - limit.count) / limit.count,
        met=count <= limit.count,
    )


def reached_latency(latency: Latency, amount: float) -> Reached:
    """Return the entry for a latency, which is what was measured at the end, at batch 1.

    Clocks repeat no better than within some per cent: it is met up to 10 % above.
    """
    entry = next(each for each in latency.measurements if each.batch_size == 1)
    if entry.dense is None or entry.speedup is None:
        raise ValueError("the dense model was not measured")
    pruned, dense = 1e6 * entry.pruned.median_ms, 1e6 * entry.dense.median_ms
    share = 1 / entry.speedup.median
    deviation = share / amount - 1 if amount <= 1 else pruned / (1e6 * amount) - 1
    return Reached(
        metric="latency",
        share=share,
        count=round(pruned),
        requested_count=round(amount * (dense if amount <= 1 else 1e6)),
        relative_deviation=deviation,
        met=deviation <= _CLOSE,
    )


def _add_latency(
    cost: CostModel,
    config: RunConfig,
    loaded: LoadedModel,
    structure: Structure,
    device: torch.device,
    observer: Observer,
) -> LatencyTable:
    """Measure what operators take and make it a cost."""
    one = in_parts(loaded.example_inputs, 1)[0]
    floor = np.ceil(config.structure.floor * cost.channels).astype(np.int64)
    table = measure_table(
        loaded.module.to(device), structure, one,
        device=device, floor=floor, observer=observer, seed=config.training.seed,
    )  # fmt: skip
    cost.add("latency", table.products)
    return table


def _add_latency_of_macs(
    cost: CostModel, loaded: LoadedModel, device: torch.device, observer: Observer
) -> float:
    """Make a latency that is in proportion to the MACs a cost; return the dense model's."""
    plan = plan_benchmark(device, seconds=_DENSE_SECONDS, runtimes=("eager",), batch_sizes=(1,))
    observer.stage("latency", "timing the dense model")
    dense = copy.deepcopy(loaded.module).cpu().eval()
    (measured,) = measure_latency(
        None, dense, loaded.example_inputs, plan, SilentObserver()
    ).measurements
    dense_ns = 1e6 * measured.pruned.median_ms
    macs = cost.products("macs")
    share = dense_ns / max(1, cost.macs(cost.channels))
    cost.add("latency", replace(macs, coefficient=macs.coefficient * share))
    return dense_ns


def _describe(table: LatencyTable) -> str:
    return (
        f"the latency table is off by at most {100 * max(map(abs, table.errors)):.0f} % for"
        f" {len(table.errors)} models of random widths that it has not seen"
    )
