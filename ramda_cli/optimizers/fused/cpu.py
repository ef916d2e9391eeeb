"""Calls the CPU kernels of `cpu.cpp` on tensors."""

import ctypes
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from ramda_cli.optimizers.fused.library import load
from ramda_cli.optimizers.fused.operands import Operand, Settings, point_, pointers
from ramda_cli.optimizers.fused.roots import TOLERANCE, Secular
from ramda_cli.optimizers.fused.tiles import Limits, Tiles

# Wide tiles, so that memory is read in long runs; no more cells than kMaxCells.
_MAX_CELLS = 4608
_SMALLEST_TILE, _LARGEST_TILE = 1 << 16, 1 << 20
# So many for all threads, whatever their number: results must not depend on it.
_TILES = 64


def limits_for(entries: int) -> Limits:
    """Return how large tiles may be, given the entries of all tensors together."""
    size = min(max(entries // _TILES, _SMALLEST_TILE), _LARGEST_TILE)
    return Limits(columns=_MAX_CELLS, rows=512, entries=size)


class CpuKernels:
    """The passes over memory of one step.

    Args:
        tiles: of the tensors that `bind` is given, cut to `limits_for` them.
        channels: how many there are.
    """

    max_corrections = 12
    host_may_ask = True

    def __init__(self, tiles: Tiles, channels: int) -> None:
        self._library = load()
        self._tiles = tiles
        self._channels = channels
        self._sums = np.empty((5, tiles.slots))
        self._operands: Sequence[Operand] = ()
        self._tensors = pointers(())
        self._settings: npt.NDArray[np.float32] = np.empty((0, 4), dtype=np.float32)

    def bind(
        self,
        operands: Sequence[Operand],
        gradients: Sequence[Tensor],
        settings: Sequence[Settings],
    ) -> None:
        """Say where the tensors of this step are, and with what settings."""
        if operands is not self._operands:
            self._operands, self._tensors = operands, pointers(operands)
        point_(self._tensors, operands, gradients)
        values = [[float(value) for value in each] for each in settings]
        self._settings = np.array(values, dtype=np.float32)

    def accumulate(self, ratios: Float[Tensor, " channels"]) -> Float[Tensor, "5 channels"]:
        """Add the gradients; return Σ w² and Σ w² d, and Σ p², Σ p² t and Σ p² t² at these L/r.

        Tensors without channels are finished.
        """
        self._launch("ramda_accumulate", self._padded(ratios), self._sums, self._slots)
        return self._reduce(5)

    def first_ratios(
        self,
        problem: Secular,
        guess: Float[Tensor, " channels"],
        sums: Float[Tensor, "3 channels"],
    ) -> Float[Tensor, " channels"]:
        """Return `problem.first_ratios`."""
        return self._over_channels("ramda_first_ratios", problem, guess, sums)

    def better_ratios(
        self,
        problem: Secular,
        ratios: Float[Tensor, " channels"],
        sums: Float[Tensor, "2 channels"],
    ) -> Float[Tensor, " channels"]:
        """Return `problem.better_ratios`."""
        tolerance = ctypes.c_double(TOLERANCE)
        return self._over_channels("ramda_better_ratios", problem, ratios, sums, tolerance)

    def write(self, ratios: Float[Tensor, " channels"]) -> Float[Tensor, "2 channels"]:
        """Average the solution at these L/r into the iterates; return Σ p² and Σ p² t."""
        self._launch("ramda_write", self._padded(ratios), self._sums, self._slots)
        return self._reduce(2)

    def correct(
        self, last: Float[Tensor, " channels"], ratios: Float[Tensor, " channels"]
    ) -> Float[Tensor, "2 channels"]:
        """Replace the solution at `last`, which was averaged in, by that at other L/r."""
        values = self._padded(last), self._padded(ratios)
        self._launch("ramda_correct", *values, self._sums, self._slots)
        return self._reduce(2)

    def multiply(self) -> Float[Tensor, " channels"]:
        """Return Σ g x."""
        tiles, tensors = self._tiles.table, self._tensors
        self._library.ramda_multiply(
            _at(tiles), _count(tiles), _at(tensors), _at(self._sums), torch.get_num_threads()
        )
        return self._reduce(1)[0]

    def _over_channels(
        self,
        name: str,
        problem: Secular,
        ratios: Float[Tensor, " channels"],
        sums: Float[Tensor, "kinds channels"],
        *more: ctypes.c_double,
    ) -> Float[Tensor, " channels"]:
        out = torch.empty(self._channels)
        of_problem = problem.square, problem.curvature, problem.shrinkage, problem.zero
        tensors = [x.contiguous() for x in (*of_problem, ratios.float(), sums)]
        at = [ctypes.c_void_p(x.data_ptr()) for x in tensors]
        target = ctypes.c_void_p(out.data_ptr())
        count, threads = ctypes.c_int64(self._channels), torch.get_num_threads()
        getattr(self._library, name)(count, *at, *more, target, threads)
        return out

    @property
    def _slots(self) -> ctypes.c_int64:
        return ctypes.c_int64(self._tiles.slots)

    def _padded(self, ratios: Float[Tensor, " channels"]) -> npt.NDArray[np.float32]:
        # Entries without a channel are not shrunk.
        return np.append(ratios.numpy().astype(np.float32), np.float32(0.0))

    def _launch(self, name: str, *values: npt.NDArray[np.generic] | ctypes.c_int64) -> None:
        tiles = self._tiles
        tables = tiles.table, _count(tiles.table), self._tensors, self._settings, tiles.owner
        arguments = [_at(x) if isinstance(x, np.ndarray) else x for x in (*tables, *values)]
        getattr(self._library, name)(*arguments, torch.get_num_threads())

    def _reduce(self, kinds: int) -> Float[Tensor, "kinds channels"]:
        out = np.empty((kinds, self._channels))
        tiles = self._tiles
        self._library.ramda_reduce(
            _at(tiles.order),
            _at(tiles.first),
            ctypes.c_int64(self._channels),
            ctypes.c_int64(kinds),
            _at(self._sums),
            self._slots,
            _at(out),
            torch.get_num_threads(),
        )
        return torch.from_numpy(out)


def _at(array: npt.NDArray[np.generic]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _count(table: npt.NDArray[np.int64]) -> ctypes.c_int64:
    return ctypes.c_int64(len(table))
