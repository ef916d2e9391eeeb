"""Which widths a model may have: multiples that hardware likes, the same ones in every layer.

Channels of a group then go in blocks. A group of n channels whose counts must be multiples of m
loses n mod m channels first (m where that is 0), then m at a time. In a family of groups whose
widths must agree, the blocks of the same number go together. A weight that may lose ranks counts as
a group of them; its first block goes down to a rank that pays.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ramda_cli.structure.groups import DependencyGroup
from ramda_cli.structure.matrices import Matrix
from ramda_cli.structure.support import Support

Integers = npt.NDArray[np.int64]

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")


@dataclass(frozen=True, eq=False)
class Widths:
    """The widths that groups may have.

    Attributes:
        channels: of each group.
        multiple: of which each kept count must be, unless all channels are kept.
        family: number of the family of each group, from 0; groups of a family have the same
            channels and multiple, and keep the same count.
        most: the largest count below all channels.
    """

    channels: Integers
    multiple: Integers
    family: Integers
    most: Integers

    @property
    def free(self) -> bool:
        """Whether every width is allowed."""
        each_goes_alone = bool(((self.multiple == 1) & (self.first == 1)).all())
        return each_goes_alone and np.unique(self.family).size == self.family.size

    @property
    def first(self) -> Integers:
        """Return how many channels of each group the first block has."""
        return self.channels - self.most

    def at_least(self, kept: Integers) -> Integers:
        """Return the smallest allowed counts that are not below these, never 0."""
        wanted = np.zeros(self.family.max(initial=-1) + 1, dtype=np.int64)
        np.maximum.at(wanted, self.family, np.maximum(kept, 1))
        rounded = -(-wanted[self.family] // self.multiple) * self.multiple
        return np.where(rounded > self.most, self.channels, rounded)


def free_widths(channels: Sequence[int]) -> Widths:
    """Return widths of which every one is allowed."""
    counts = np.array(channels, dtype=np.int64)
    return multiples(counts, np.ones_like(counts), np.arange(counts.size, dtype=np.int64))


def multiples(channels: Integers, multiple: Integers, family: Integers) -> Widths:
    """Return widths of which all multiples are allowed."""
    remainder = channels % multiple
    first = np.where(remainder == 0, multiple, remainder)
    return Widths(channels, multiple, family, channels - first)


def with_ranks(widths: Widths, matrices: Sequence[Matrix], *, round_to: int) -> Widths:
    """Add the ranks that weights may have: all that pay, or the multiples of these.

    A weight of which no such rank pays stays as it is.
    """
    full = np.array([each.full_rank for each in matrices], dtype=np.int64)
    paying = np.array([each.largest_paying_rank for each in matrices], dtype=np.int64)
    most = np.minimum(paying, full - 1) // round_to * round_to
    start = widths.family.max(initial=-1) + 1
    return Widths(
        np.concatenate([widths.channels, full]),
        np.concatenate([widths.multiple, np.where(most > 0, round_to, full)]),
        np.concatenate([widths.family, start + np.arange(full.size)]),
        np.concatenate([widths.most, most]),
    )


def plan_widths(
    groups: Sequence[DependencyGroup],
    *,
    round_to: int,
    uniform: bool,
    families: Mapping[str, str] | None = None,
) -> Widths:
    """Return the widths that groups may have.

    Args:
        groups: of a structure.
        round_to: of which every tensor dimension that a group has a part in must keep a multiple;
            a head of 64 is one already.
        uniform: whether layers that are alike must stay alike: groups of as many channels whose
            names differ in numbers alone, such as `blocks.0.mlp.fc1` and `blocks.1.mlp.fc1`.
        families: which groups must stay alike instead, by name; those of the family "" keep all
            their channels.
    """
    channels = np.array([group.channels for group in groups], dtype=np.int64)
    multiple = np.array([_multiple(group, round_to) for group in groups], dtype=np.int64)
    if not uniform:
        return multiples(channels, multiple, np.arange(channels.size, dtype=np.int64))
    if families is None:
        names = [_NUMBER.sub("*", group.name) for group in groups]
    else:
        names = [families[group.name] for group in groups]
        multiple = np.where([name == "" for name in names], channels, multiple)
    alike = zip(names, channels, multiple, strict=True)
    kinds = [(name, int(count), int(each)) for name, count, each in alike]
    number = {kind: i for i, kind in enumerate(dict.fromkeys(kinds))}
    return multiples(channels, multiple, np.array([number[kind] for kind in kinds], dtype=np.int64))


def hold_back(support: Support, groups: Sequence[DependencyGroup], widths: Widths) -> Support:
    """Keep zero channels where without them a width is not allowed."""
    gone = np.array([len(support.removable.get(g.name, ())) for g in groups], dtype=np.int64)
    kept = widths.at_least(widths.channels - gone)
    removable, held = {}, dict(support.held)
    for group, count in zip(groups, kept.tolist(), strict=True):
        zero = support.removable.get(group.name, [])
        cut = group.channels - count
        if cut:
            removable[group.name] = zero[:cut]
        if cut < len(zero):
            held[group.name] = sorted([*held.get(group.name, ()), *zero[cut:]])
    return Support(removable, held)


def _multiple(group: DependencyGroup, round_to: int) -> int:
    blocks = {part.block for part in group.coupled}
    return math.lcm(*(round_to // math.gcd(round_to, block) for block in blocks))
