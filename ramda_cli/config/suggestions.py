"""Finding what a mistyped name was probably meant to be."""

import difflib
from collections.abc import Sequence


def closest(name: str, known: Sequence[str]) -> str | None:
    """Return the known name that `name` was probably meant to be, or None.

    A dotted name also matches by its last part, so `epochs` finds `training.epochs`.
    """
    tails = {key.rpartition(".")[2]: key for key in reversed(known)}
    tail = name.rpartition(".")[2]
    if tail in tails:
        return tails[tail]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    if near:
        return near[0]
    near = difflib.get_close_matches(tail, tails, n=1, cutoff=0.7)
    return tails[near[0]] if near else None
