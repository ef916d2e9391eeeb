"""The singular values of a model's weights, in a terminal."""

from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from ramda_cli.report.formatting import count, percent, text_of
from ramda_cli.report.inspection import RankEntry, SpectrumEntry
from ramda_cli.report.ranks import bars
from ramda_cli.report.tables import titled_table

_MAX_LAYERS: Final = 60


def spectra_table(spectra: Sequence[SpectrumEntry]) -> Table:
    """Return the layers; of many the largest, in the model's order.

    A row draws the singular values from the largest to the smallest, and says which rank keeps a
    share of the energy, the sum of their squares, and how large two layers of that rank are beside
    the one, in parameters as in MACs.
    """
    columns = ("size", "values", "90 % energy", "99 % energy", "pays to")
    table = titled_table(
        "singular values; ranks, and what is left of the layer", columns, right=(3, 4, 5)
    )
    ranked = sorted(range(len(spectra)), key=lambda i: -spectra[i].rows * spectra[i].cols)
    for index in sorted(ranked[:_MAX_LAYERS]):
        entry = spectra[index]
        table.add_row(
            text_of(entry.name.removesuffix(".weight")),
            f"{entry.rows} x {entry.cols}",
            Text(bars(entry.values), style="cyan", no_wrap=True),
            *(_rank(rank, entry) for rank in entry.ranks if rank.energy in (0.9, 0.99)),
            count(entry.largest_paying_rank),
        )
    hidden = len(spectra) - table.row_count
    if hidden:
        table.caption = f"and {hidden} smaller layers; --json lists all"
    return table


def _rank(rank: RankEntry, entry: SpectrumEntry) -> Text:
    if rank.rank > entry.largest_paying_rank:
        return Text(f"{count(rank.rank)}, no gain", style="dim")
    return Text(f"{count(rank.rank)}, {percent(rank.size)}")
