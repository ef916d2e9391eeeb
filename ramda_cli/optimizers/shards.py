"""Parameters of which each process holds some rows, as `torch.distributed.fsdp.fully_shard` leaves.

A step works on the rows that are here. Only what is known of whole channels, a few numbers each, is
added up over the processes, so that all of them find the same zeros.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard


@dataclass(frozen=True, eq=False)
class Rows:
    """Which rows of a parameter this process holds.

    Attributes:
        first, last: half-open interval along dimension 0.
        group: the processes that hold all of them together.
    """

    first: int
    last: int
    group: dist.ProcessGroup


def rows_here(parameter: Tensor) -> Rows | None:
    """Return the rows of a parameter that are here; None where it is no sharded one.

    Raises:
        ValueError: it is sharded in another way than by rows, over one dimension of the mesh.
    """
    if not isinstance(parameter, DTensor):
        return None
    over = [n for n, placed in enumerate(parameter.placements) if not placed.is_replicate()]
    if not over:
        return None
    (dim, *more), placed = over, parameter.placements[over[0]]
    if more or not isinstance(placed, Shard) or placed.dim != 0:
        raise ValueError(f"a parameter is placed as {parameter.placements}, and not by its rows")
    group = parameter.device_mesh.get_group(dim)
    # As `torch.chunk` divides: every process but the last ones has as many.
    each = -(-parameter.shape[0] // dist.get_world_size(group))
    first = min(parameter.shape[0], dist.get_rank(group) * each)
    return Rows(first, first + parameter.to_local().shape[0], group)


def local(tensor: Tensor) -> Tensor:
    """Return what is here of a tensor, with the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(rows: Tensor, parameter: Tensor) -> Tensor:
    """Bring together, in every process, the rows of something shaped as a parameter."""
    if isinstance(rows, DTensor):
        return rows.full_tensor()
    if not isinstance(parameter, DTensor):
        return rows
    spread = DTensor.from_local(
        rows, parameter.device_mesh, parameter.placements,
        shape=parameter.shape, stride=parameter.stride(),
    )  # fmt: skip
    return spread.full_tensor()


def part_here(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return of a whole tensor the rows that a parameter has here."""
    rows = rows_here(parameter)
    return tensor if rows is None else tensor[rows.first : rows.last].clone()


def common_group(parameters: Iterable[Tensor]) -> dist.ProcessGroup | None:
    """Return the processes over which the channels of these parameters are spread.

    Raises:
        ValueError: some are sharded and others are not, or over other processes.
    """
    groups = {rows.group if rows else None for rows in map(rows_here, parameters)}
    if len(groups) > 1:
        raise ValueError(
            "penalized parameters must all be sharded over the same processes, or none of them:"
            " call fully_shard on the whole model"
        )
    return next(iter(groups), None)


def is_sharded(parameters: Iterable[Tensor]) -> bool:
    """Tell whether any parameter is spread over processes."""
    return any(isinstance(parameter, DTensor) for parameter in parameters)
