"""What the views of a report say of ranks."""

import math
from collections.abc import Sequence
from typing import Final

from ramda_cli.report.document import MatrixEntry
from ramda_cli.report.formatting import share_of

_BARS: Final = "▁▂▃▄▅▆▇█"
_WIDTH: Final = 8


def entries_left(entry: MatrixEntry) -> float:
    """Return how many entries a weight has now, as a share of those it had."""
    if not entry.factorized:
        return 1.0
    return share_of(entry.rank * (entry.rows + entry.cols), entry.rows * entry.cols)


def most_lost(matrices: Sequence[MatrixEntry], most: int) -> list[MatrixEntry]:
    """Return the weights in the model's order; of more than so many those that lost the most."""
    ranked = sorted(range(len(matrices)), key=lambda i: entries_left(matrices[i]))
    return [matrices[i] for i in sorted(ranked[:most])]


def bars(values: Sequence[float]) -> str:
    """Draw values, the largest first, as heights relative to it; nothing where it is zero."""
    if not values or not values[0] > 0:
        return ""
    width = min(_WIDTH, len(values))
    picked = [values[round(i * (len(values) - 1) / max(1, width - 1))] for i in range(width)]
    heights = [math.ceil(len(_BARS) * value / values[0]) for value in picked]
    drawn = (_BARS[min(len(_BARS), height) - 1] if height > 0 else " " for height in heights)
    return "".join(drawn).rstrip()
