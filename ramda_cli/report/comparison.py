"""Two reports side by side."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from ramda_cli.report.document import Accuracy, GroupEntry, Report
from ramda_cli.report.formatting import count, counted, measured, percent, share_of, text_of
from ramda_cli.report.markdown import escaped, table
from ramda_cli.report.plain import parse_report
from ramda_cli.report.rows import paired_sizes
from ramda_cli.report.speed import latency_rows
from ramda_cli.report.tables import titled_table


@dataclass(frozen=True)
class Line:
    """One figure of both models, as text; `change` is from the first to the second."""

    label: str
    first: str
    second: str
    change: str = ""


def render_comparison(first: object, second: object, console: Console) -> None:
    """Print two report documents side by side.

    Raises:
        FileFormatError: if one is not a report of this schema.
    """
    one, other = parse_report(first), parse_report(second)
    console.print()
    for title, lines in (("", _figures(one, other)), ("channels kept", _groups(one, other))):
        shown = titled_table(title, ("first", "second", "change"), right=(1, 2, 3))
        for line in lines:
            shown.add_row(
                text_of(line.label), *map(text_of, (line.first, line.second)), line.change
            )
        if shown.row_count:
            console.print(shown)
    if _on_other_data(one, other):
        console.print(Text("note: ", style="yellow") + Text(_OTHER_DATA))


def comparison_markdown(first: object, second: object) -> str:
    """Return two report documents side by side as GitHub-flavoured markdown.

    Raises:
        FileFormatError: if one is not a report of this schema.
    """
    one, other = parse_report(first), parse_report(second)
    blocks = [
        table((title, "first", "second", "change"), [_cells(line) for line in lines])
        for title, lines in (
            ("", [*_figures(one, other)]),
            ("channels kept", [*_groups(one, other)]),
        )
        if lines
    ]
    if _on_other_data(one, other):
        blocks.append(f"> {_OTHER_DATA}")
    return "\n\n".join(blocks) + "\n"


_OTHER_DATA = "the two were measured on different data"


def _cells(line: Line) -> tuple[str, str, str, str]:
    return escaped(line.label), escaped(line.first), escaped(line.second), line.change


def _figures(one: Report, other: Report) -> Iterator[Line]:
    yield Line("model", one.model.name, other.model.name)
    for row in paired_sizes(one.size.pruned, other.size.pruned):
        yield Line(row.label, row.first, row.second, _change(row.share, digits=1))
    macs = [share_of(r.size.pruned.macs, r.size.dense.macs) for r in (one, other)]
    yield Line("MACs, of dense", percent(macs[0]), percent(macs[1]))
    yield from _accuracy(one.accuracy, other.accuracy)
    yield from _latencies(one, other)
    yield Line("proof", _verdict(one), _verdict(other))
    yield Line("training", _training(one), _training(other))
    dates = one.reproducibility.date, other.reproducibility.date
    if None not in dates:
        yield Line("made", *map(str, dates))


def _latencies(one: Report, other: Report) -> Iterator[Line]:
    """Yield both latencies and speed-ups; two runs have no ratio, for they were not in turns."""
    tables = [[] if r.latency is None else latency_rows(r.latency) for r in (one, other)]
    rows = [{label: (pruned, speedup) for label, _, pruned, speedup in table} for table in tables]
    for label in dict.fromkeys([*rows[0], *rows[1]]):
        a, b = (own.get(label, ("-", "-")) for own in rows)
        yield Line(f"latency, {label}", a[0], b[0])
        yield Line(f"speed-up, {label}", a[1], b[1])


def _verdict(report: Report) -> str:
    return "passed" if report.proof.passed else "FAILED"


def _training(report: Report) -> str:
    training = report.training
    if training is None:
        return "none"
    return f"{training.method}, {counted(training.epochs, 'epoch')}"


def _accuracy(one: Accuracy | None, other: Accuracy | None) -> Iterator[Line]:
    present = [accuracy for accuracy in (one, other) if accuracy is not None]
    if not present:
        return
    metrics = dict.fromkeys(accuracy.metric for accuracy in present)
    first, second = (
        "-" if a is None else measured(a.final, is_share=a.is_share) for a in (one, other)
    )
    change = ""
    if one is not None and other is not None and len(metrics) == 1:
        gained = other.final - one.final
        change = f"{100 * gained:+.2f} points" if one.is_share else f"{gained:+.4g}"
    yield Line(" / ".join(metrics), first, second, change)


def _on_other_data(one: Report, other: Report) -> bool:
    prints = [report.data and report.data.fingerprint for report in (one, other)]
    return None not in prints and prints[0] != prints[1]


def _groups(one: Report, other: Report) -> Iterator[Line]:
    kept = [{group.name: group for group in report.groups} for report in (one, other)]
    for name in dict.fromkeys([*kept[0], *kept[1]]):
        a, b = (groups.get(name) for groups in kept)
        change = "" if a is None or b is None else _change(share_of(b.kept, a.kept), digits=0)
        yield Line(name, _kept(a), _kept(b), change)


def _change(share: float, *, digits: int) -> str:
    return f"{100 * (share - 1):+.{digits}f} %"


def _kept(group: GroupEntry | None) -> str:
    return "-" if group is None else f"{count(group.kept)} of {count(group.channels)}"
