"""The report of a run in a terminal."""

from typing import Final

from rich.console import Console
from rich.text import Text

from ramda_cli.report.document import Reached, Report
from ramda_cli.report.formatting import (
    percent,
    share_of,
    text_of,
)
from ramda_cli.report.phrases import (
    accuracy_text,
    asked_text,
    data_text,
    made_with,
    model_text,
    reached_amount,
    training_text,
    unit_of,
)
from ramda_cli.report.plain import parse_report
from ramda_cli.report.tables import (
    accuracy_table,
    facts,
    files_table,
    fixed_table,
    groups_table,
    latency_table,
    matrices_table,
    proof_table,
    sizes_table,
    verdict,
)

_NARROW: Final = 76


def render_terminal(document: object, console: Console) -> None:
    """Print a report document.

    Raises:
        FileFormatError: if `document` is not a report of this schema.
    """
    report = parse_report(document)
    console.print()
    console.print(_headline(report))
    console.print()
    console.print(facts(_summary(report)))
    console.print()
    console.print(sizes_table(report.size))
    if report.accuracy is not None:
        console.print(accuracy_table(report.accuracy))
    if report.latency is not None:
        console.print(latency_table(report.latency))
    console.print(proof_table(report.proof, narrow=console.width < _NARROW))
    if report.groups:
        console.print(groups_table(report.groups))
    if report.matrices:
        console.print(matrices_table(report.matrices))
    if report.fixed:
        console.print(fixed_table(report.fixed))
    if report.files:
        console.print(files_table(report.files))
    for note in report.notes:
        console.print(Text("note: ", style="yellow") + text_of(note))


def _headline(report: Report) -> Text:
    size, accuracy = report.size, report.accuracy
    macs = percent(share_of(size.pruned.macs, size.dense.macs))
    params = percent(share_of(size.pruned.params, size.dense.params))
    line = Text(f"{macs} of the MACs, {params} of the parameters; ", style="bold")
    if accuracy is not None:
        line.append_text(text_of(f"{accuracy_text(accuracy)}; "))
    return line.append("proof ").append_text(verdict(report.proof.passed))


def _summary(report: Report) -> list[tuple[str, Text]]:
    model, training = report.model, report.training
    rows = [
        ("model", text_of(model_text(model))),
        ("data", text_of(data_text(report))),
        ("asked", asked_text(report.asked)),
        *(("reached", _reached(each)) for each in (report.reached, *report.further)),
        ("training", text_of(training_text(report))),
        ("loads as", text_of(report.layout)),
        ("made with", text_of(made_with(report))),
    ]
    if training is not None and training.zero_set_stability is not None:
        stability = f"{percent(training.zero_set_stability)} unchanged since the freeze"
        rows.insert(-2, ("zero set", Text(stability)))
    return rows


def _reached(reached: Reached) -> Text:
    unit = unit_of(reached.metric)
    line = text_of(f"{percent(reached.share)} of the {unit}: ") + reached_amount(reached)
    if reached.requested_count is None:
        return line
    deviation = reached.relative_deviation
    if deviation is not None:
        line.append(f", {100 * abs(deviation):.2f} % {'above' if deviation > 0 else 'below'}")
    line.append(", ")
    met = Text("met", style="green") if reached.met else Text("NOT met", style="bold red")
    return line.append_text(met)
