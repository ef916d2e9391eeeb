"""The mean gradient of a step: over its batches, their parts and all processes.

With fp16 the loss is multiplied by a scale, so that small gradients do not vanish; one that is too
large makes them infinite, and the step's gradient is computed again with half of it.
"""

import itertools
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.errors import TrainingError
from ramda_cli.observer import Observer
from ramda_cli.tasks import counted
from ramda_cli.tasks.inputs import ExampleInputs, batch_size, moved, rows_of
from ramda_cli.training.batch_norm import Statistics
from ramda_cli.training.memory import free_memory, is_out_of_memory
from ramda_cli.training.mixing import Mixing
from ramda_cli.training.objective import Objective
from ramda_cli.training.processes import Processes, averaging
from ramda_cli.training.sharding import is_sharded

_TYPES: Final = {"bf16": torch.bfloat16, "fp16": torch.float16}
_LEAST = 2
"""Examples of a part: BatchNorm needs more than one."""

Batch = tuple[ExampleInputs, Tensor]


class Gradients:
    """Computes the gradients of steps.

    Args:
        config: how.
        objective: the loss of a batch.
        mixing: of training images.
        accumulate: batches of a step.
        device: where to train.
        observer: is told when batches are divided.
        processes: that train together, each on its part of every batch.
    """

    def __init__(
        self,
        config: TrainingConfig,
        objective: Objective,
        mixing: Mixing,
        *,
        accumulate: int,
        device: torch.device,
        observer: Observer,
        processes: Processes,
    ) -> None:
        self._config = config
        self._objective = objective
        self._mixing = mixing
        self._accumulate = accumulate
        self._device = device
        self._observer = observer
        self._processes = processes
        self._forward: tuple[nn.Module, nn.Module] | None = None
        self._parts = 1
        # Where it is not enabled all of its methods do nothing.
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")

    def compute(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Iterable[tuple[int, Batch]],
        epoch: int,
    ) -> Tensor | None:
        """Leave the mean gradient of some batches in the parameters, and return their mean loss.

        Args:
            model: on the device, in training mode.
            optimizer: of its parameters.
            batches: `accumulate` of them, each with its number in the epoch.
            epoch: counted from 1.

        Returns:
            None where loss or gradient is not finite; BatchNorm statistics are then as they were.

        Raises:
            TrainingError: the memory is too small for a batch.
        """
        if self._config.auto_batch or self._scaler.is_enabled():
            batches = list(batches)
        statistics, scale = Statistics(model), self._scaler.state_dict()
        statistics.remember()
        while True:
            optimizer.zero_grad()
            loss = self._backward(model, batches, epoch)
            if loss is None:  # the memory was too small, and parts are smaller now
                statistics.restore()
                continue
            self._scaler.unscale_(optimizer)
            finite = self._clip(model, loss)
            self._scaler.update()
            if finite:
                return loss
            statistics.restore()
            if not (bool(torch.isfinite(loss)) and self._scale_may_be_the_matter):
                break
        self._scaler.load_state_dict(scale)
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"parts": self._parts, "scaler": self._scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; a batch that did not fit is not tried again."""
        self._parts = max(self._parts, state["parts"])
        self._scaler.load_state_dict(state["scaler"])

    @property
    def _scale_may_be_the_matter(self) -> bool:
        return self._scaler.is_enabled() and self._scaler.get_scale() >= 1.0

    def _backward(
        self, model: nn.Module, batches: Iterable[tuple[int, Batch]], epoch: int
    ) -> Tensor | None:
        """Add up gradients and losses; None where parts were too large and have become smaller."""
        total = torch.zeros((), device=self._device)
        for at, (number, (inputs, targets)) in enumerate(batches, start=1):
            batch = moved(inputs, self._device), targets.to(self._device)
            mixed = self._mixing(*batch, epoch=epoch, batch=number)
            forward = self._averaged(model, mixed)
            # Gradients are averaged once a step.
            last = at == self._accumulate
            shared = self._share(batch[1])
            try:
                for part, share in _divided(mixed, self._parts):
                    with self._autocast(), self._apart(forward, not last):
                        loss = self._objective(forward, *part) / self._accumulate * shared * share
                        self._scaler.scale(loss).backward()
                    total += loss.detach()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._divide(batch_size(inputs), error)
            else:
                continue
            del batch, mixed
            free_memory()
            return None
        self._processes.mean_([total])
        return total

    def _divide(self, size: int, error: BaseException) -> None:
        """Compute batches in twice as many parts, or say what to do.

        Raises:
            TrainingError: that was not asked for, or parts cannot be smaller.
        """
        parts = 2 * self._parts
        if self._config.auto_batch and size >= _LEAST * parts:
            self._parts = parts
            self._observer.note(
                f"out of memory on {self._device}: batches of {size} are computed in {parts} parts"
            )
            return
        whole = size * self._processes.count
        if self._config.auto_batch:
            raise TrainingError(
                f"out of memory on {self._device} with {size // self._parts} examples at once",
                hint="training.checkpointing needs less memory, and so do smaller inputs",
            ) from error
        automatic = "" if self._processes.several else ", as --auto-batch does by itself"
        raise TrainingError(
            f"out of memory on {self._device} with a batch of {whole}",
            hint=f"--batch-size {max(_LEAST, whole // 2)} --accumulate {2 * self._accumulate} takes"
            f" the same steps in half of the memory{automatic}; training.checkpointing needs less"
            " too",
        ) from error

    def _clip(self, model: nn.Module, loss: Tensor) -> bool:
        """Bring gradients down to the largest norm they may have, and tell if all is finite."""
        parameters = [p for p in model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        whole_norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if not bool(torch.isfinite(whole_norm.to(loss) + loss)):
            return False
        if self._config.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self._config.clip_norm, norm)
        return True

    def _share(self, targets: Tensor) -> float | Tensor:
        """Return what makes the mean over processes of mean losses the mean over what counts."""
        if not self._processes.several or targets.ndim == 1:  # one target each: all have as many
            return 1.0
        own = counted(targets)
        everywhere = self._processes.sum_(own.clone()).clamp_min(1)
        return self._processes.count * own / everywhere

    def _averaged(self, model: nn.Module, batch: Batch) -> nn.Module:
        """Return the model as processes run it together."""
        if not self._processes.several or is_sharded(model):
            return model
        if self._forward is None or self._forward[0] is not model:
            unused = self._has_unused(model, batch)
            self._forward = model, averaging(model, find_unused=unused)
        return self._forward[1]

    def _has_unused(self, model: nn.Module, batch: Batch) -> bool:
        """Tell whether some parameter that could have a gradient has none, in any process."""
        statistics = Statistics(model)
        statistics.remember()
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), self._autocast():
            self._objective(model, *batch).backward()
        statistics.restore()
        unused = any(p.requires_grad and p.grad is None for p in model.parameters())
        model.zero_grad()
        return bool(self._processes.most(int(unused), self._device))

    def _apart(self, forward: nn.Module, apart: bool) -> AbstractContextManager[object]:
        if apart and isinstance(forward, nn.parallel.DistributedDataParallel):
            return forward.no_sync()
        if isinstance(forward, FSDPModule):
            forward.set_requires_gradient_sync(not apart)
        return nullcontext()

    def _autocast(self) -> AbstractContextManager[object]:
        kind = _TYPES.get(self._config.precision)
        return nullcontext() if kind is None else torch.autocast(self._device.type, kind)


def _divided(batch: Batch, parts: int) -> Iterable[tuple[Batch, float | Tensor]]:
    """Yield parts of a batch, and what each one's mean loss weighs in that of the whole."""
    inputs, targets = batch
    size = batch_size(inputs)
    parts = max(1, min(parts, size // _LEAST))
    if parts == 1:
        yield batch, 1.0
        return
    ends = [number * size // parts for number in range(parts + 1)]
    whole = counted(targets).clamp_min(1)
    for rows in itertools.starmap(slice, itertools.pairwise(ends)):
        own = counted(targets[rows])
        if own > 0:  # the mean of nothing is NaN
            yield (rows_of(inputs, rows), targets[rows]), own / whole
