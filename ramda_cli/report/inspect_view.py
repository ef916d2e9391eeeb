"""What can be removed from a model, in a terminal."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ramda_cli.report.formatting import count, counted, difference, percent, share_of, text_of
from ramda_cli.report.inspection import CandidateEntry, DenseSize, Inspection, Outcome
from ramda_cli.report.phrases import model_text
from ramda_cli.report.plain import parse_inspection
from ramda_cli.report.spectra_view import spectra_table
from ramda_cli.report.tables import facts, fixed_table, titled_table

_MAX_GROUPS: Final = 60


def render_inspect(document: object, console: Console) -> None:
    """Print an inspection document.

    Raises:
        FileFormatError: if `document` is not an inspection of this schema.
    """
    found = parse_inspection(document)
    console.print()
    console.print(_headline(found))
    console.print()
    console.print(facts(_summary(found)))
    console.print()
    if found.groups:
        console.print(_groups_table(found.groups, found.size))
    if found.fixed:
        console.print(fixed_table(found.fixed))
    if found.spectra is not None:
        none = Text("no layer can become two of low rank", style="bold")
        console.print(spectra_table(found.spectra) if found.spectra else none)
    for note in found.notes:
        console.print(Text("note: ", style="yellow") + text_of(note))


def _headline(found: Inspection) -> Text:
    if not found.groups:
        return Text("nothing can be removed from this model", style="bold")
    removable = found.removable
    line = Text(f"{count(removable.channels)} channels can be removed", style="bold")
    groups = counted(len(found.groups), "group")
    line.append(f" in {groups}; at stake are ", style="not bold")
    return line.append(
        f"{percent(removable.macs_share)} of the MACs"
        f" and {percent(removable.params_share)} of the parameters"
    )


def _summary(found: Inspection) -> list[tuple[str, Text]]:
    model, size = found.model, found.size
    fixed = sum(entry.channels for entry in found.fixed)
    return [
        ("model", text_of(model_text(model))),
        (
            "size",
            Text(
                f"{count(size.macs)} MACs, {count(size.params)} parameters,"
                f" {count(size.channels)} channels"
            ),
        ),
        ("fixed", Text(f"{count(fixed)} channels in {counted(len(found.fixed), 'set')}")),
        *([] if found.outcome is None else [("afterwards", _outcome(found.outcome))]),
    ]


def _outcome(outcome: Outcome) -> Text:
    if outcome.layout == "graph":
        text = "a graph of operations instead of the model's own class"
    elif outcome.submodules:
        kinds = ", ".join(f"{number} {name}" for name, number in outcome.submodules.items())
        text = f"the model's own class, in which {kinds} run as graphs"
    else:
        text = "the model's own class"
    changed = f"{difference(outcome.max_relative_difference)} (float64)"
    return text_of(f"{text}; a trial removal changed the outputs by {changed}")


def _groups_table(groups: Sequence[CandidateEntry], size: DenseSize) -> Table:
    """Return the groups; of many those with the most MACs at stake, in the model's order."""
    columns = ("channels", "unit", "params", "MACs", "")
    table = titled_table("groups", columns, right=(1, 3, 4, 5))
    ranked = sorted(range(len(groups)), key=lambda index: -groups[index].macs)
    for index in sorted(ranked[:_MAX_GROUPS]):
        group = groups[index]
        table.add_row(
            text_of(group.name),
            count(group.channels),
            text_of(group.unit),
            count(group.params),
            count(group.macs),
            percent(share_of(group.macs, size.macs)),
        )
    hidden = len(groups) - table.row_count
    if hidden:
        table.caption = f"and {hidden} groups with fewer MACs; --json lists all"
    return table
