"""The report of a run in a terminal."""

from rich.console import Console
from rich.text import Text

from ramda_cli.report.document import Asked, Reached, Report
from ramda_cli.report.formatting import (
    count,
    duration,
    percent,
    share_of,
    size_bytes,
    text_of,
)
from ramda_cli.report.plain import parse_report
from ramda_cli.report.tables import (
    accuracy_table,
    facts,
    files_table,
    fixed_table,
    groups_table,
    latency_table,
    proof_table,
    sizes_table,
    verdict,
)

_UNITS = {
    "macs": "MACs",
    "params": "parameters",
    "channels": "channels",
    "size_mb": "size",
    "latency": "latency",
}


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
    console.print(accuracy_table(report.accuracy))
    if report.latency is not None:
        console.print(latency_table(report.latency))
    console.print(proof_table(report.proof))
    if report.groups:
        console.print(groups_table(report.groups))
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
    before, after = accuracy.before_removal, accuracy.after_removal
    if before == after:
        kept = f"{percent(before, 2)} before and after the removal"
    else:
        kept = f"{percent(before, 2)} before and {percent(after, 2)} after the removal"
    line = Text(f"{macs} of the MACs, {params} of the parameters; ", style="bold")
    line.append_text(text_of(f"{accuracy.metric} {kept}; proof "))
    return line.append_text(verdict(report.proof.passed))


def _summary(report: Report) -> list[tuple[str, Text]]:
    model, training, again = report.model, report.training, report.reproducibility
    versions = ", ".join(f"{name} {version}" for name, version in again.versions.items())
    rows = [
        ("model", text_of(f"{model.name}, {model.classes} classes, weights: {model.weights}")),
        ("data", text_of(report.data.description)),
        ("asked", asked_text(report.asked)),
        *(("reached", _reached(each)) for each in (report.reached, *report.further)),
        (
            "training",
            text_of(
                f"{training.method}, {training.epochs} epochs, {count(training.steps)} steps,"
                f" {duration(training.seconds)} on {again.device}, seed {again.seed}"
            ),
        ),
        ("loads as", text_of(report.layout)),
        ("made with", text_of(f"{versions}, {again.date}")),
    ]
    if training.zero_set_stability is not None:
        stability = f"{percent(training.zero_set_stability)} unchanged since the freeze"
        rows.insert(-2, ("zero set", Text(stability)))
    return rows


def asked_text(asked: Asked) -> Text:
    """Return what was asked for, as a person says it."""
    amounts = dict(asked.amounts)
    if not amounts and asked.metric is not None and asked.amount is not None:
        amounts = {asked.metric: asked.amount}
    said = " and ".join(_amount(metric, amount) for metric, amount in amounts.items())
    if not said:
        said = f"regularization weight {asked.weight:g}" if asked.weight is not None else "-"
    if asked.round_to > 1:
        said += f", widths in multiples of {asked.round_to}"
    if asked.layout == "uniform":
        said += ", the same ones in layers that are alike"
    return text_of(said)


def _amount(metric: str, amount: float) -> str:
    unit = _UNITS.get(metric, metric)
    if amount <= 1:
        return f"{percent(amount)} of the {unit}"
    match metric:
        case "size_mb":
            return f"{amount:g} MB"
        case "latency":
            return f"{amount:g} ms"
        case _:
            return f"{count(amount)} {unit}"


def reached_amount(reached: Reached) -> Text:
    """Return how much is left, and of how much that was asked for."""
    amounts = [_count(reached.metric, reached.count)]
    if reached.requested_count is not None:
        amounts.append(f"{_count(reached.metric, reached.requested_count)} asked for")
    return text_of(" of ".join(amounts))


def _count(metric: str, value: float) -> str:
    match metric:
        case "size_mb":
            return size_bytes(value)
        case "latency":
            return f"{value / 1e6:.4g} ms"
        case _:
            return count(value)


def _reached(reached: Reached) -> Text:
    unit = _UNITS.get(reached.metric, reached.metric)
    line = text_of(f"{percent(reached.share)} of the {unit}: ") + reached_amount(reached)
    if reached.requested_count is None:
        return line
    deviation = reached.relative_deviation
    if deviation is not None:
        line.append(f", {100 * abs(deviation):.2f} % {'above' if deviation > 0 else 'below'}")
    line.append(", ")
    met = Text("met", style="green") if reached.met else Text("NOT met", style="bold red")
    return line.append_text(met)
