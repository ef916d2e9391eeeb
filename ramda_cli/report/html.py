"""The report of a run as one page that needs nothing else."""

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ramda_cli.report.curves import draw_curves
from ramda_cli.report.document import GroupEntry, Report
from ramda_cli.report.formatting import (
    count,
    difference,
    duration,
    percent,
    share_of,
    size_bytes,
    text_of,
)
from ramda_cli.report.palette import DARK, LIGHT
from ramda_cli.report.phrases import accuracy_text, asked_text, data_text, reached_amount
from ramda_cli.report.plain import parse_report
from ramda_cli.report.ranks import entries_left
from ramda_cli.report.rows import accuracy_rows, size_rows
from ramda_cli.report.spectrum_picture import draw_spectrum
from ramda_cli.report.speed import latency_rows, speed_sentence, threads
from ramda_cli.report.width_picture import draw_widths, group_colors


def render_html(document: object) -> str:
    """Return a report document as an HTML page, with styles and pictures inside.

    Every text of the document is escaped, and the page forbids itself scripts and requests.

    Raises:
        FileFormatError: if `document` is not a report of this schema.
    """
    report = parse_report(document)
    size = report.size
    return _template().render(
        report=report,
        macs_left=percent(share_of(size.pruned.macs, size.dense.macs)),
        params_left=percent(share_of(size.pruned.params, size.dense.params)),
        asked=asked_text(report.asked).plain,
        sizes=size_rows(size),
        accuracies=accuracy_rows(report.accuracy),
        data=data_text(report),
        curves=_curves(report),
        latencies=[] if report.latency is None else latency_rows(report.latency),
        solved=_solved(report),
        # Drawn as a tree of elements, which escapes the layers' names.
        widths=Markup(draw_widths(report.layers)) if report.layers else "",
        colors=group_colors(report.layers),
        # Drawn from numbers alone.
        spectra=[(entry, Markup(draw_spectrum(entry))) for entry in report.matrices],
        light=LIGHT,
        dark=DARK,
        configuration=yaml.safe_dump(dict(report.reproducibility.config), sort_keys=False),
    )


def page_environment() -> Environment:
    """Return what fills in a page: every text is escaped, its control characters made visible."""
    return Environment(
        loader=PackageLoader("ramda_cli.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
    )


def _template():  # type: ignore[no-untyped-def]
    environment = page_environment()
    environment.filters.update(
        share=percent,
        accuracy=accuracy_text,
        count=count,
        bytes=size_bytes,
        difference=difference,
        duration=duration,
        speed=speed_sentence,
        threads=threads,
        width=lambda group: round(100 * _share(group), 1),
        amount=lambda reached: reached_amount(reached).plain,
        kept=lambda group: percent(_share(group), 0),
        entries=lambda entry: percent(entries_left(entry), 0),
    )
    return environment.get_template("report.html")


def _visible(value: object) -> object:
    """Show control characters of a text, but for the ends of lines; markup is what it is."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(text_of(line).plain for line in value.split("\n"))


def _share(group: GroupEntry) -> float:
    return min(1.0, max(0.0, share_of(group.kept, group.channels)))


def _solved(report: Report) -> bool:
    """Tell whether every certificate is zero, of which a logarithmic curve shows nothing."""
    history = () if report.training is None else report.training.history
    found = {entry.certificate for entry in history} - {None}
    return found == {0.0}


def _curves(report: Report) -> list[Markup]:
    if report.training is None or report.accuracy is None:
        return []
    # Drawn from numbers and one name, by a library that escapes what it writes.
    metric = text_of(report.accuracy.metric).plain
    training = report.training
    curves = draw_curves(training.history, metric, removal=training.removal_epoch)
    return [Markup(svg) for svg in curves]
