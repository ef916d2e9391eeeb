"""Several targets, methods and seeds from the same dense weights: one run of `prune` for each."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from ramda_cli.config.schema import RunConfig, TargetConfig
from ramda_cli.file_header import read_header_report
from ramda_cli.observer import Observer
from ramda_cli.pipeline.one_of_several import run_once
from ramda_cli.pipeline.workspace import Workspace
from ramda_cli.report.plain import build_sweep, parse_report
from ramda_cli.report.sweep import Point, Sweep
from ramda_cli.report.sweep_view import sweep_html, sweep_markdown


@dataclass(frozen=True)
class SweepSettings:
    """What to run.

    Attributes:
        metric: of the targets.
        amounts: of the targets, shares of dense or absolute.
        methods, seeds: every pair of them for every target.
    """

    metric: str
    amounts: tuple[float, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]


def sweep(config: RunConfig, settings: SweepSettings, observer: Observer) -> dict[str, object]:
    """Prune to each target, and write the table and the plot after each run.

    A run that is finished is not repeated, and one that was interrupted goes on from its last
    checkpoint.

    Args:
        config: of every run, but for target, method, seed and directory.
        settings: what differs.
        observer: is told of every run.

    Raises:
        RamdaError: as `prune`; what was finished before stays.
    """
    workspace = Workspace(config.output.directory)
    points: list[Point] = []
    runs = [*_runs(config, settings)]
    document: dict[str, object] = {}
    for number, run in enumerate(runs, start=1):
        run_once(run, observer, number=number, of=len(runs))
        points.append(_point(run))
        document = build_sweep(Sweep(model=config.model.name, points=tuple(points)))
        workspace.write_text("sweep.json", json.dumps(document, indent=2) + "\n")
        workspace.write_text("sweep.md", sweep_markdown(document))
        workspace.write_text("sweep.html", sweep_html(document))
    return document


def _runs(config: RunConfig, settings: SweepSettings) -> Iterator[RunConfig]:
    for amount in settings.amounts:
        for method in settings.methods:
            for seed in settings.seeds:
                name = f"{settings.metric.replace('_', '-')}-{amount:g}-{method}-{seed}"
                yield config.model_copy(
                    update={
                        "target": TargetConfig.model_validate({settings.metric: amount}),
                        "training": config.training.model_copy(
                            update={"method": method, "seed": seed}
                        ),
                        "output": config.output.model_copy(
                            update={"directory": config.output.directory / name}
                        ),
                    }
                )


def _point(run: RunConfig) -> Point:
    report = parse_report(read_header_report(run.output.directory / "model.safetensors"))
    size, accuracy = report.size, report.accuracy
    if accuracy is None:
        raise ValueError("a run of prune measures accuracy")
    return Point(
        directory=run.output.directory.name,
        asked=dict(report.asked.amounts),
        method=run.training.method,
        seed=run.training.seed,
        macs_share=size.pruned.macs / max(1, size.dense.macs),
        params_share=size.pruned.params / max(1, size.dense.params),
        metric=accuracy.metric,
        is_share=accuracy.is_share,
        higher_is_better=accuracy.higher_is_better,
        dense=accuracy.dense,
        pruned=accuracy.final,
        unchanged=accuracy.before_removal == accuracy.after_removal,
        met=report.met,
    )
