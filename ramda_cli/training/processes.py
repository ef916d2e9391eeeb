"""Processes that train one model together, each on its part of every batch.

They are started by `torchrun` or `accelerate launch`, which tell each one who it is by environment
variables; one that is started alone is alone. Whatever is not a part of a batch is computed by each
of them, in the same order, with the same result.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ramda_cli.errors import ConfigError, TrainingError


@dataclass(frozen=True)
class Processes:
    """This process, and how many there are.

    Attributes:
        count: of all, on all machines.
        rank: of this one; 0 is the one that writes.
        local_rank: among those of its machine, which is the number of its device.
    """

    count: int = 1
    rank: int = 0
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.count > 1

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over all processes, in place."""
        if not self.several or not tensors:
            return
        flat = torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])
        dist.all_reduce(flat)
        parts = flat.div_(self.count).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def sum_(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over all processes, in place."""
        if self.several:
            dist.all_reduce(tensor)
        return tensor

    def most(self, value: int, device: torch.device) -> int:
        """Return the largest of a number that each process has."""
        if not self.several:
            return value
        largest = torch.tensor(value, device=device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def gather(self, value: Any) -> list[Any]:
        """Return what each process has, the first one's first."""
        if not self.several:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait for all others to come here."""
        if self.several:
            dist.barrier()

    def require_equal(self, value: Any, what: str) -> None:
        """Compare something that must be the same in every process.

        Raises:
            TrainingError: it is not.
        """
        values = self.gather(value)
        others = [rank for rank, each in enumerate(values) if each != values[0]]
        if others:
            raise TrainingError(
                f"{what} of process {others[0]} is not that of process 0",
                hint="processes must compute alike: the same kind of device, the same number of"
                " threads and the same versions everywhere",
            )


ALONE = Processes()


def join() -> Processes:
    """Join the processes that were started together; alone, do nothing.

    Raises:
        ConfigError: the environment does not say who the others are.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return ALONE
    from accelerate import PartialState

    try:
        state = PartialState(cpu=not torch.cuda.is_available())
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the processes cannot find each other: {error}",
            hint="start them with `torchrun -m ramda_cli prune ...` or `accelerate launch`",
        ) from error
    return Processes(state.num_processes, state.process_index, state.local_process_index)


def is_lost(error: BaseException) -> bool:
    """Tell whether an error of torch says that another process cannot be reached."""
    if isinstance(error, dist.DistBackendError | dist.DistNetworkError):
        return True
    words = "Connection closed by peer", "Connection reset by peer", "gloo", "Broken pipe"
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def averaging(model: nn.Module, *, find_unused: bool) -> nn.Module:
    """Return a model whose gradients are means over all processes.

    Args:
        model: on its device, the same everywhere.
        find_unused: whether some parameters may have no gradient.
    """
    with warnings.catch_warnings():  # of torch 2.14: its new name is not in earlier versions
        warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
        return nn.parallel.DistributedDataParallel(
            model, broadcast_buffers=False, find_unused_parameters=find_unused
        )
