"""The lines of a gate, for a person."""

from collections.abc import Sequence

from ramda_cli.cli.output import stdout_console
from ramda_cli.report.formatting import text_of
from ramda_cli.report.gate import Verdict
from ramda_cli.report.tables import verdict


def render_verdicts(verdicts: Sequence[Verdict], *, notes: Sequence[str] = ()) -> None:
    """Print each verdict on its line, then what else there is to say."""
    console = stdout_console()
    width = max(len(each.name) for each in verdicts)
    for each in verdicts:
        line = verdict(each.passed) + text_of(f"  {each.name:{width}}  ", style="not bold")
        console.print(line + text_of(each.text, style="not bold"), soft_wrap=True)
    for note in notes:
        console.print(text_of(f"note    {note}", style="dim"), soft_wrap=True)
