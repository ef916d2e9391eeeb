"""Tensors cut into tiles, and the cells of tiles brought together by channel.

A tensor is seen as a matrix, as in `ramda_cli.subproblem.cells`, whose columns or rows (cells) each
belong to one channel. A tile is a block of that matrix. Its kernel leaves one sum per cell in a
slot of its own; the slots of a channel are then added in a fixed order. There is one table of tiles
for all tensors, so the number of kernel launches does not depend on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from ramda_cli.subproblem import Member
from ramda_cli.subproblem.cells import memory_order

# Shorter rows are summed as columns of a matrix with one row.
_SHORTEST_ROW = 32

Integers = npt.NDArray[np.signedinteger[Any]]


class Form(IntEnum):
    """Which part of a tile belongs to one channel."""

    COLUMNS = 0
    ROWS = 1
    FREE = 2


@dataclass(frozen=True)
class Limits:
    """How large a tile may be on some device.

    Attributes:
        columns: of a tile whose cells are columns.
        rows: of a tile whose cells are rows.
        entries: of any tile.
    """

    columns: int
    rows: int
    entries: int


@dataclass(frozen=True, eq=False)
class Tiles:
    """All tiles of all tensors.

    Attributes:
        table: a row per tile: tensor, form, offset of its first entry, rows, columns, entries from
            one row to the next, its first cell, its first slot.
        owner: channel of each cell of each tensor; the number of channels where there is none.
        order: the slots that belong to a channel, sorted by channel.
        first: of each channel the first of its places in `order`, and their number at the end.
        slots: how many there are.
    """

    table: Integers
    owner: npt.NDArray[np.int32]
    order: Integers
    first: Integers
    slots: int


def cut(members: Sequence[Member | int], channels: int, limits: Limits) -> Tiles:
    """Cut tensors into tiles.

    Args:
        members: of each tensor the part that it has in the channels, or how many entries where it
            has none.
        channels: how many there are.
        limits: of the device.
    """
    rows: list[Integers] = []
    owners: list[npt.NDArray[np.int64]] = []
    cells = 0
    for number, member in enumerate(members):
        if isinstance(member, int):
            blocks, owner = _free(member, limits), np.empty(0, dtype=np.int64)
        else:
            blocks, owner = _blocks(member, limits)
        blocks[:, 0] = number
        blocks[:, 6] += cells
        cells += owner.size
        rows.append(blocks)
        owners.append(owner)
    table = np.concatenate(rows) if rows else np.empty((0, 8), dtype=np.int64)
    owner = np.concatenate(owners)
    # Tiles with the most entries first: threads that take one after the other end together.
    largest_first = np.argsort(-(table[:, 3] * table[:, 4]), kind="stable")
    table = np.take(table, largest_first, axis=0)
    counts = np.where(table[:, 1] == Form.ROWS, table[:, 3], table[:, 4])
    counts[table[:, 1] == Form.FREE] = 0
    table[:, 7] = np.cumsum(counts) - counts
    slots = int(counts.sum())
    within = np.arange(slots) - np.repeat(table[:, 7], counts)
    channel = owner[np.repeat(table[:, 6], counts) + within]
    order = np.argsort(channel, kind="stable")
    first = np.searchsorted(channel[order], np.arange(channels + 1))
    return Tiles(table, owner.astype(np.int32), order, first, slots)


def _free(entries: int, limits: Limits) -> Integers:
    starts = np.arange(0, entries, limits.entries)
    lengths = np.minimum(limits.entries, entries - starts)
    return _table(Form.FREE, starts, np.ones_like(starts), lengths, lengths, np.zeros_like(starts))


def _blocks(member: Member, limits: Limits) -> tuple[Integers, Integers]:
    """Return the tiles of one tensor and the channels of its cells."""
    owner = member.owner.cpu().numpy()
    _, outer = memory_order(member.like, member.dim)
    inner = member.like.numel() // (outer * owner.size)
    if outer == 1 and inner >= _SHORTEST_ROW:
        width = min(inner, limits.entries)
        height = min(limits.rows, max(1, limits.entries // width))
        top, left, heights, widths = _grid(owner.size, inner, height, width)
        table = _table(Form.ROWS, top * inner + left, heights, widths, inner, top)
        return table, owner
    owner = np.repeat(owner, inner)
    width = min(owner.size, limits.columns)
    height = max(1, limits.entries // width)
    top, left, heights, widths = _grid(outer, owner.size, height, width)
    table = _table(Form.COLUMNS, top * owner.size + left, heights, widths, owner.size, left)
    return table, owner


def _grid(rows: int, columns: int, height: int, width: int) -> tuple[Integers, ...]:
    """Return top, left, height and width of the blocks that cover a matrix."""
    top, left = np.meshgrid(np.arange(0, rows, height), np.arange(0, columns, width), indexing="ij")
    heights, widths = np.minimum(height, rows - top), np.minimum(width, columns - left)
    return top.ravel(), left.ravel(), heights.ravel(), widths.ravel()


def _table(
    form: Form,
    offset: Integers,
    rows: Integers,
    columns: Integers,
    stride: Integers | int,
    cell: Integers,
) -> Integers:
    unset = np.zeros_like(offset)
    stride = np.broadcast_to(np.asarray(stride), offset.shape)
    kind = np.full_like(offset, form)
    return np.stack([unset, kind, offset, rows, columns, stride, cell, unset], axis=1)
