"""Several targets, methods and seeds from the same dense weights: one run of `prune` for each."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from ramda_cli.config.loading import load_config
from ramda_cli.config.schema import RunConfig, TargetConfig
from ramda_cli.errors import FileFormatError
from ramda_cli.file_header import read_header_report
from ramda_cli.observer import Observer
from ramda_cli.pipeline.prune import prune
from ramda_cli.pipeline.workspace import INCOMPLETE, Workspace
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
        name = run.output.directory.name
        if _finished(run):
            observer.note(f"{name} is there already")
        else:
            observer.note(f"run {number} of {len(runs)}: {name}")
            prune(run, observer, resume=_begun(run))
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
                            update={"directory": config.output.directory / name, "overwrite": True}
                        ),
                    }
                )


def _finished(run: RunConfig) -> bool:
    """Tell whether a directory holds the result of these very settings."""
    directory = run.output.directory
    if not (directory / "report.json").is_file() or (directory / INCOMPLETE).exists():
        return False
    try:
        report = parse_report(read_header_report(directory / "model.safetensors"))
    except FileFormatError:
        return False
    return report.reproducibility.config == run.model_dump(mode="json")


def _begun(run: RunConfig) -> bool:
    """Tell whether a directory holds an unfinished run of these very settings."""
    workspace = Workspace(run.output.directory)
    settings = workspace.path("config.yaml")
    if not (workspace.unfinished and settings.is_file()):
        return False
    return load_config(settings, {}, ()) == run


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
