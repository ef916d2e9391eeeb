"""Tiles cover every entry once, and slots add up to channels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ramda_cli.optimizers.fused.cpu import limits_for
from ramda_cli.optimizers.fused.tiles import Form, Limits, Tiles, cut
from ramda_cli.subproblem import Member

LIMITS = limits_for(0)


def _covered(tiles: Tiles, tensor: int, entries: int) -> np.ndarray:
    """Count how often each entry is in a tile, and find its channel."""
    out = np.zeros((2, entries), dtype=np.int64)
    for number, form, offset, rows, columns, stride, cell, _ in tiles.table.tolist():
        if number != tensor:
            continue
        for i in range(rows):
            span = slice(offset + i * stride, offset + i * stride + columns)
            out[0, span] += 1
            if form == Form.ROWS:
                out[1, span] = tiles.owner[cell + i]
            elif form == Form.COLUMNS:
                out[1, span] = tiles.owner[cell : cell + columns]
    return out


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    wide=st.sampled_from([0, 33, 700]),
    dim=st.integers(0, 3),
    last=st.booleans(),
    limits=st.sampled_from([LIMITS, Limits(columns=128, rows=8, entries=1 << 14)]),
)
def test_every_entry_is_in_one_tile_with_its_channel(
    shape: list[int], wide: int, dim: int, last: bool, limits: Limits
):
    if wide:
        shape = [*shape[:-1], wide]
    dim = min(dim, len(shape) - 1)
    like = torch.zeros(shape)
    if last and like.ndim == 4:
        like = like.to(memory_format=torch.channels_last)
    channels = 5
    owner = torch.arange(shape[dim]) % (channels + 1)
    tiles = cut([7, Member(like, dim, owner)], channels, limits)
    assert (_covered(tiles, 0, 7)[0] == 1).all()
    times, channel = _covered(tiles, 1, like.numel())
    assert (times == 1).all()
    spread = owner.view([-1 if i == dim else 1 for i in range(like.ndim)]).expand(shape)
    stored = torch.empty_like(like, dtype=torch.int64).copy_(spread)
    order = sorted(range(like.ndim), key=like.stride, reverse=True)
    assert channel.tolist() == stored.permute(order).flatten().tolist()
    for form, column, most in ((Form.COLUMNS, 4, limits.columns), (Form.ROWS, 3, limits.rows)):
        assert (tiles.table[tiles.table[:, 1] == form, column] <= most).all()


def test_slots_are_sorted_by_channel():
    owner = torch.tensor([1, 0, 3, 1])  # 3: of no channel
    tiles = cut(
        [Member(torch.zeros(2, 4), 1, owner), Member(torch.zeros(4, 40), 0, owner)], 3, LIMITS
    )
    channel_of_slot = np.empty(tiles.slots, dtype=np.int64)
    for _, form, _, rows, columns, _, cell, slot in tiles.table.tolist():
        count = rows if form == Form.ROWS else columns
        channel_of_slot[slot : slot + count] = tiles.owner[cell : cell + count]
    assert channel_of_slot[tiles.order].tolist() == [0, 0, 1, 1, 1, 1, 3, 3]
    assert tiles.first.tolist() == [0, 2, 6, 6]


@pytest.mark.parametrize("shape", [(3, 200_000), (200_000, 3), (1, 1), (100_000,)])
def test_large_tensors_are_shared_out(shape: tuple[int, ...]):
    tiles = cut([Member(torch.zeros(shape), 0, torch.arange(shape[0]) % 3)], 3, LIMITS)
    assert (_covered(tiles, 0, int(np.prod(shape)))[0] == 1).all()
    assert (tiles.table[:, 3] * tiles.table[:, 4] <= LIMITS.entries).all()


def test_large_models_have_large_tiles():
    sizes = [limits_for(n).entries for n in (0, 1 << 24, 1 << 40)]
    assert sizes == [1 << 16, 1 << 18, 1 << 20]
