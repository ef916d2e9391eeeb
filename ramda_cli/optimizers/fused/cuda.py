"""Launches the Triton kernels of `triton_kernels` on tensors."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ramda_cli.optimizers.fused import triton_kernels
from ramda_cli.optimizers.fused.operands import Operand, Settings, point_, pointers
from ramda_cli.optimizers.fused.roots import TOLERANCE, Secular
from ramda_cli.optimizers.fused.tiles import Form, Limits, Tiles

LIMITS = Limits(columns=128, rows=8, entries=1 << 14)
# The block that a program holds at a time, rows by columns.
_BLOCKS = {Form.COLUMNS: (8, LIMITS.columns), Form.ROWS: (LIMITS.rows, 128)}
_FREE_BLOCK = 1024
_CHANNEL_BLOCK = 128


class Launchable(Protocol):
    """A Triton kernel."""

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., object]:
        """Return what launches so many programs."""
        ...


class CudaKernels:
    """The passes over memory of one step, in a number of launches that depends on no tensor.

    Args:
        tiles: of the tensors that `bind` is given, cut to `LIMITS`.
        channels: how many there are.
        device: where the tensors are.
    """

    max_corrections = 3
    host_may_ask = False

    def __init__(self, tiles: Tiles, channels: int, device: torch.device) -> None:
        self._channels = channels
        self._device = device
        self._tiles = {
            form: torch.from_numpy(tiles.table[tiles.table[:, 1] == form]).to(device)
            for form in Form
        }
        self._owner = torch.from_numpy(tiles.owner).to(device)
        self._order = torch.from_numpy(tiles.order).to(device)
        self._first = torch.from_numpy(tiles.first).to(device)
        self._slots = tiles.slots
        self._sums = torch.zeros(5, max(1, tiles.slots), dtype=torch.float64, device=device)
        self._table = pointers(())
        self._tensors = torch.zeros(0, 8, dtype=torch.int64, device=device)
        self._settings = torch.zeros(0, 4, device=device)
        # What was copied while a graph was captured is copied again by every replay.
        self._kept: list[Tensor] = []

    def bind(
        self,
        operands: Sequence[Operand],
        gradients: Sequence[Tensor],
        settings: Sequence[Settings],
    ) -> None:
        """Say where the tensors of this step are, and with what settings."""
        table = pointers(operands)
        point_(table, operands, gradients)
        if not np.array_equal(table, self._table):
            self._table, self._tensors = table, self._send(torch.from_numpy(table))
        if any(isinstance(value, Tensor) for each in settings for value in each):
            rows = [
                torch.stack([torch.as_tensor(x, device=self._device).float() for x in each])
                for each in settings
            ]
            self._settings = torch.stack(rows)
        else:
            self._settings = self._send(torch.tensor(settings, dtype=torch.float32))

    def accumulate(self, ratios: Float[Tensor, " channels"]) -> Float[Tensor, "5 channels"]:
        """Add the gradients; return Σ w² and Σ w² d, and Σ p², Σ p² t and Σ p² t² at these L/r.

        Tensors without channels are finished.
        """
        free = self._tiles[Form.FREE]
        if len(free):
            triton_kernels.finish_free[len(free),](
                free, self._tensors, self._settings, BLOCK=_FREE_BLOCK
            )
        self._over_tiles(triton_kernels.accumulate, self._padded(ratios))
        return self._reduce(5)

    def first_ratios(
        self,
        problem: Secular,
        guess: Float[Tensor, " channels"],
        sums: Float[Tensor, "3 channels"],
    ) -> Float[Tensor, " channels"]:
        """Return `problem.first_ratios`, from one kernel."""
        return self._over_channels(triton_kernels.first_ratios, problem, guess, *sums)

    def better_ratios(
        self,
        problem: Secular,
        ratios: Float[Tensor, " channels"],
        sums: Float[Tensor, "2 channels"],
    ) -> Float[Tensor, " channels"]:
        """Return `problem.better_ratios`, from one kernel."""
        return self._over_channels(
            triton_kernels.better_ratios, problem, ratios, *sums, TOLERANCE=TOLERANCE
        )

    def write(self, ratios: Float[Tensor, " channels"]) -> Float[Tensor, "2 channels"]:
        """Average the solution at these L/r into the iterates; return Σ p² and Σ p² t."""
        self._over_tiles(triton_kernels.write, self._padded(ratios))
        return self._reduce(2)

    def correct(
        self, last: Float[Tensor, " channels"], ratios: Float[Tensor, " channels"]
    ) -> Float[Tensor, "2 channels"]:
        """Replace the solution at `last`, which was averaged in, by that at other L/r."""
        self._over_tiles(triton_kernels.correct, self._padded(last), self._padded(ratios))
        return self._reduce(2)

    def multiply(self) -> Float[Tensor, " channels"]:
        """Return Σ g x."""
        for form, (rows, columns) in _BLOCKS.items():
            tiles = self._tiles[form]
            if len(tiles):
                triton_kernels.multiply[len(tiles),](
                    tiles, self._tensors, self._sums, self._slots, R=rows, C=columns, FORM=form
                )
        return self._reduce(1)[0]

    def _over_tiles(self, kernel: Launchable, *ratios: Tensor) -> None:
        for form, (rows, columns) in _BLOCKS.items():
            tiles = self._tiles[form]
            if len(tiles):
                tables = tiles, self._tensors, self._settings, self._owner
                kernel[len(tiles),](
                    *tables, *ratios, self._sums, self._slots, R=rows, C=columns, FORM=form
                )

    def _over_channels(
        self,
        kernel: Launchable,
        problem: Secular,
        *values: Float[Tensor, " channels"],
        **constants: float,
    ) -> Float[Tensor, " channels"]:
        out = torch.empty(self._channels, device=self._device)
        if not self._channels:
            return out
        zero = problem.zero.to(torch.int8)
        kernel[-(-self._channels // _CHANNEL_BLOCK),](
            *(problem.square, problem.curvature, problem.shrinkage, zero),
            *values,
            out,
            self._channels,
            **constants,
            BLOCK=_CHANNEL_BLOCK,
        )
        return out

    def _reduce(self, kinds: int) -> Float[Tensor, "kinds channels"]:
        out = torch.empty(kinds, self._channels, dtype=torch.float64, device=self._device)
        if self._channels:
            triton_kernels.reduce[self._channels,](
                self._order, self._first, self._sums, out, self._slots, self._channels,
                KINDS=kinds, BLOCK=64, num_warps=1,
            )  # fmt: skip
        return out

    def _padded(self, ratios: Float[Tensor, " channels"]) -> Float[Tensor, " padded"]:
        # Entries without a channel are not shrunk.
        return torch.nn.functional.pad(ratios.float(), (0, 1))

    def _send(self, values: Tensor) -> Tensor:
        """Copy to the device without waiting for it."""
        if self._device.type != "cuda":
            return values.to(self._device)
        pinned = values.pin_memory()
        if torch.cuda.is_current_stream_capturing():
            self._kept.append(pinned)
        return pinned.to(self._device, non_blocking=True)
