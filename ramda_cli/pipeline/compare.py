"""Methods over seeds, each a run of `prune`: the table and the figures after each."""

import json
from collections.abc import Sequence
from pathlib import Path

from ramda_cli.config.comparison import ComparedRun, Comparison
from ramda_cli.config.schema import RunConfig
from ramda_cli.observer import Observer
from ramda_cli.pipeline.one_of_several import is_there, run_once
from ramda_cli.pipeline.workspace import Workspace
from ramda_cli.report.methods import MethodComparison, MethodRun, structure_of
from ramda_cli.report.methods_view import comparison_html, comparison_markdown
from ramda_cli.report.plain import build_comparison, parse_report


def compare(
    comparisons: Sequence[Comparison], directory: Path, observer: Observer
) -> list[dict[str, object]]:
    """Run what each comparison names; what is finished is not repeated, and stays in the table.

    Args:
        comparisons: each gets a directory of its name in `directory`, and in it one of each run,
            `comparison.json`, `comparison.md` and `comparison.html`.
        directory: of all of them.
        observer: is told of every run.

    Raises:
        RamdaError: as `prune`; what was finished before stays.
    """
    total = sum(len(comparison.chosen) for comparison in comparisons)
    number, documents = 0, []
    for comparison in comparisons:
        workspace = Workspace(directory / comparison.name)
        document: dict[str, object] = {}
        for compared in comparison.chosen:
            number += 1
            run_once(_placed(compared, workspace.directory), observer, number=number, of=total)
            document = _all_there(comparison, workspace.directory)
            workspace.write_text("comparison.json", json.dumps(document, indent=2) + "\n")
            workspace.write_text("comparison.md", comparison_markdown(document))
            workspace.write_text("comparison.html", comparison_html(document))
        documents.append(document)
    return documents


def _placed(compared: ComparedRun, directory: Path) -> RunConfig:
    place = directory / compared.directory
    output = compared.config.output.model_copy(update={"directory": place})
    return compared.config.model_copy(update={"output": output})


def _all_there(comparison: Comparison, directory: Path) -> dict[str, object]:
    """Return the document of all runs that are finished, in the order of the file."""
    placed = [(each.label, _placed(each, directory)) for each in comparison.runs]
    finished = [(label, run) for label, run in placed if is_there(run)]
    measured = [_measured(label, run) for label, run in finished]
    run = finished[-1][1]
    return build_comparison(
        MethodComparison(
            name=comparison.name,
            model=run.model.name,
            data=run.data.name,
            epochs=run.training.epochs,
            structure=_structure(run),
            device=", ".join(dict.fromkeys(device for _, device in measured)),
            runs=tuple(each for each, _ in measured),
        )
    )


def _structure(run: RunConfig) -> str:
    everything = run.structure.low_rank == ("*",)
    return "low-rank level" if everything else "weighted group sparsity"


def _measured(label: str, run: RunConfig) -> tuple[MethodRun, str]:
    """Return what a finished run's report says, and on which device it was trained."""
    # The header of the model's file has no durations.
    report = parse_report(json.loads((run.output.directory / "report.json").read_text()))
    accuracy, training, size = report.accuracy, report.training, report.size
    if accuracy is None or training is None:
        raise ValueError("a run of prune trains and measures")
    seconds = training.seconds
    return (
        MethodRun(
            directory=run.output.directory.name,
            label=label,
            seed=run.training.seed,
            metric=accuracy.metric,
            value=accuracy.final,
            structure=structure_of(training.history[-1]),
            removed=1 - size.pruned.params / max(1, size.dense.params),
            seconds_per_epoch=None if seconds is None else seconds / training.epochs,
            unchanged=accuracy.before_removal == accuracy.after_removal,
            is_share=accuracy.is_share,
            higher_is_better=accuracy.higher_is_better,
            history=training.history,
        ),
        report.reproducibility.device or "an unknown device",
    )
