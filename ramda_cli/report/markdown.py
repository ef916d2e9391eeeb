"""The report of a run in markdown, as a comment on a pull request."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from ramda_cli.report.document import Accuracy, GroupEntry, Latency, MatrixEntry, Report
from ramda_cli.report.formatting import (
    count,
    counted,
    difference,
    percent,
    share_of,
    text_of,
)
from ramda_cli.report.phrases import accuracy_text, data_text, made_with, training_text
from ramda_cli.report.plain import parse_report
from ramda_cli.report.ranks import entries_left
from ramda_cli.report.rows import accuracy_rows, size_rows
from ramda_cli.report.speed import latency_rows, speed_sentence, threads

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]()#+!|~<>&@-])")


def render_markdown(document: object) -> str:
    """Return a report document as GitHub-flavoured markdown.

    Every text of the document is escaped, mentions included: names and labels are untrusted.

    Raises:
        FileFormatError: if `document` is not a report of this schema.
    """
    report = parse_report(document)
    blocks = [
        _headline(report),
        size_table(report),
        *([] if report.accuracy is None else [accuracy_table(report.accuracy)]),
        *([] if report.latency is None else [latency_table(report.latency)]),
        proof_table(report),
        *([_details(_grouped(report.groups), _groups(report.groups))] if report.groups else []),
        *([_details(_ranked(report.matrices), _ranks(report.matrices))] if report.matrices else []),
        _details("how it was made", _origin(report)),
    ]
    notes = [f"> {escaped(note)}" for note in report.notes]
    return "\n\n".join([*blocks, *notes]) + "\n"


def escaped(value: object) -> str:
    """Return a text that markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", text_of(value).plain)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: int = 1) -> str:
    """Return a table whose columns from `right` on are right-aligned; cells are markdown."""
    rule = ["---" if index < right else "---:" for index in range(len(header))]
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _headline(report: Report) -> str:
    size, accuracy = report.size, report.accuracy
    macs = percent(share_of(size.pruned.macs, size.dense.macs))
    params = percent(share_of(size.pruned.params, size.dense.params))
    proof = "proof passed" if report.proof.passed else "**proof FAILED**"
    met = "" if report.met else "; **the target was not met**"
    kept = "" if accuracy is None else f"{escaped(accuracy_text(accuracy))}; "
    return (
        f"### {escaped(report.model.name)}: {macs} of the MACs, {params} of the parameters\n\n"
        f"{kept}{proof}{met}"
    )


def size_table(report: Report) -> str:
    """Return the sizes before and after the removal."""
    rows = [(row.label, row.first, row.second, row.left) for row in size_rows(report.size)]
    return table(("size", "dense", "pruned", "left"), rows)


def accuracy_table(accuracy: Accuracy) -> str:
    """Return the metric along the run."""
    return table((escaped(accuracy.metric), ""), accuracy_rows(accuracy))


def latency_table(latency: Latency) -> str:
    """Return the latencies of both models, and a sentence."""
    rows = [[escaped(cell) for cell in row] for row in latency_rows(latency)]
    where = f"{latency.device}, {threads(latency.threads)}"
    body = table(("latency", "dense", "pruned", "speed-up"), rows)
    return f"{body}\n\n{escaped(f'{speed_sentence(latency)}; {where}')}"


def proof_table(report: Report) -> str:
    """Return every comparison with its largest difference and its tolerance."""
    rows = [
        (
            escaped(check.name),
            escaped(check.dtype),
            count(check.inputs),
            difference(check.max_abs_difference),
            difference(check.tolerance),
            "passed" if check.passed else "**FAILED**",
        )
        for check in report.proof.checks
    ]
    header = ("proof", "dtype", "inputs", "largest difference", "tolerance", "")
    return table(header, rows, right=2)


def _grouped(groups: Sequence[GroupEntry]) -> str:
    return f"channels kept in {counted(len(groups), 'group')}"


def _ranked(matrices: Sequence[MatrixEntry]) -> str:
    return f"ranks kept in {counted(len(matrices), 'weight')}"


def _ranks(matrices: Sequence[MatrixEntry]) -> str:
    rows = [
        (
            escaped(entry.name),
            f"{count(entry.rows)} x {count(entry.cols)}",
            count(entry.rank),
            count(entry.full_rank),
            percent(entries_left(entry), 0) if entry.factorized else escaped(entry.reason or ""),
        )
        for entry in matrices
    ]
    return table(("weight", "size", "rank", "of", "entries left"), rows, right=2)


def _groups(groups: Sequence[GroupEntry]) -> str:
    rows = [
        (
            escaped(group.name),
            count(group.kept),
            count(group.channels),
            percent(share_of(group.kept, group.channels), 0),
        )
        for group in groups
    ]
    return table(("group", "kept", "of", ""), rows)


def _origin(report: Report) -> str:
    again = report.reproducibility
    rows = [
        ("command", escaped(again.command)),
        ("data", escaped(data_text(report))),
        ("weights", escaped(report.model.weights)),
        ("training", escaped(training_text(report))),
        ("loads as", escaped(report.layout)),
        ("made with", escaped(made_with(report))),
        *((escaped(file.name), escaped((file.sha256 or "-")[:16])) for file in report.files),
    ]
    return table(("", ""), rows, right=2)


def _details(summary: str, body: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"
