"""Passes over the training data: a step for each batch, whatever model and optimizer."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.data.bundle import DataBundle
from ramda_cli.errors import TrainingError
from ramda_cli.observer import Observer
from ramda_cli.optimizers import ProximalOptimizer
from ramda_cli.optimizers.shards import local
from ramda_cli.tasks import IGNORED
from ramda_cli.tasks.inputs import ExampleInputs, batch_size, moved
from ramda_cli.training.batch_norm import Statistics, freeze_batch_norm_
from ramda_cli.training.mixing import Mixing
from ramda_cli.training.objective import Objective
from ramda_cli.training.processes import ALONE, Processes, averaging
from ramda_cli.training.sharding import is_sharded

_REPORT_EVERY = 10
"""Steps between two reports."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory was the matter, on a device or on the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


class DivergedError(TrainingError):
    """Step after step had no finite gradient, or the weights are not finite."""


class Passes:
    """Counts steps over a run, and takes them.

    A step whose loss or gradient is infinite or NaN is not taken: weights, optimizer and BatchNorm
    statistics stay as they were.

    Attributes:
        per_epoch: steps of an epoch.
        total: steps of the run.
        step: steps done, those that were not taken among them.
        loss_sum: of the running epoch's steps that were taken.
        skipped: those that were not.

    Args:
        data: loaders.
        config: how.
        objective: the loss of a batch.
        device: where to train.
        observer: is told of every step.
        processes: that train together, each on its part of every batch.
    """

    def __init__(
        self,
        data: DataBundle,
        config: TrainingConfig,
        objective: Objective,
        *,
        device: torch.device,
        observer: Observer,
        processes: Processes = ALONE,
    ) -> None:
        self._data = data
        self._processes = processes
        self._forward: tuple[nn.Module, nn.Module] | None = None
        self._config = config
        self._objective = objective
        self._mixing = Mixing(config, classes=len(data.class_names))
        self._device = device
        self._observer = observer
        self._accumulate = min(config.accumulate, len(data.train))
        self.per_epoch = len(data.train) // self._accumulate
        if config.max_steps is not None:
            self.per_epoch = min(self.per_epoch, config.max_steps // config.epochs)
        self.total = config.epochs * self.per_epoch
        self.step = 0
        self.loss_sum = torch.zeros((), device=device)
        self.skipped = 0
        self._skipped_at_once = 0

    def run(
        self,
        epoch: int,
        model: nn.Module,
        optimizer: ProximalOptimizer,
        *,
        first_step: int,
        before_step: Callable[[], None],
        after_step: Callable[[], None],
        passed_over: Callable[[], None],
        shown: Callable[[], Mapping[str, float]],
    ) -> float:
        """Take the steps of an epoch that are left of it, and return the mean loss.

        Args:
            epoch: counted from 1.
            model: on the device.
            optimizer: of its parameters.
            first_step: from which on the observer counts.
            before_step: sets the optimizer's settings for the step.
            after_step: is called when the step is done.
            passed_over: is called before that, of a step that was not taken.
            shown: what the observer is told beside loss and lr.

        Returns:
            The mean of the whole epoch.

        Raises:
            DivergedError: more steps in a row than `config.skip_limit` had no finite gradient, or
                most steps of the epoch, or the weights are not finite.
        """
        model.train()
        if self._config.freeze_batch_norm:
            freeze_batch_norm_(model)
        done = self.step - (epoch - 1) * self.per_epoch
        if done == 0:
            self.loss_sum, self.skipped = torch.zeros((), device=self._device), 0
        first = done * self._accumulate
        if done < self.per_epoch:
            self._data.train.set_epoch(epoch - 1, first=first)
        else:  # what looks at the data next begins a pass, as it would after this one
            self._data.train.set_epoch(epoch)
        batches = enumerate(self._data.train, start=first)
        statistics = Statistics(model)
        for _ in range(done, self.per_epoch):
            before_step()
            statistics.remember()
            loss = self._take(model, optimizer, islice(batches, self._accumulate), epoch)
            if loss is None:
                statistics.restore()
                passed_over()
                self._skip(epoch)
            else:
                self.loss_sum += loss
                self._skipped_at_once = 0
            self.step += 1
            after_step()
            if self.step % _REPORT_EVERY == 0 or self.step % self.per_epoch == 0:
                self._report(optimizer, loss, first_step, shown)
        good = all(bool(torch.isfinite(local(p)).all()) for p in model.parameters())
        if self._processes.most(int(not good), self._device):
            raise self._diverged("the weights became infinite or NaN", epoch)
        taken = self.per_epoch - self.skipped
        if self.skipped > taken:
            what = f"loss or gradient became infinite or NaN in {self.skipped} of {self.per_epoch}"
            raise self._diverged(f"{what} steps", epoch)
        return float(self.loss_sum) / taken

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {
            "step": self.step, "loss_sum": self.loss_sum, "skipped": self.skipped,
            "skipped_at_once": self._skipped_at_once,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.step, self.skipped = state["step"], state["skipped"]
        self.loss_sum = state["loss_sum"].to(self._device, copy=True)
        self._skipped_at_once = state["skipped_at_once"]

    def _take(
        self,
        model: nn.Module,
        optimizer: ProximalOptimizer,
        batches: Iterable[tuple[int, tuple[ExampleInputs, Tensor]]],
        epoch: int,
    ) -> Tensor | None:
        """Take a step on the mean gradient of some batches, and return their mean loss.

        Where loss or gradient is not finite do nothing and return None.
        """
        optimizer.zero_grad()
        total = torch.zeros((), device=self._device)
        for at, (number, (inputs, targets)) in enumerate(batches, start=1):
            batch = moved(inputs, self._device), targets.to(self._device)
            mixed = self._mixing(*batch, epoch=epoch, batch=number)
            forward = self._averaged(model, mixed)
            # Gradients are averaged once a step.
            last = at == self._accumulate
            with self._autocast(), self._apart(forward, not last), self._in_memory(inputs):
                loss = self._objective(forward, *mixed) / self._accumulate
                loss = loss * self._share(batch[1])
                loss.backward()
            total += loss.detach()
        self._processes.mean_([total])
        parameters = [p for p in model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        whole_norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if not bool(torch.isfinite(whole_norm.to(total) + total)):
            return None
        if self._config.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self._config.clip_norm, norm)
        optimizer.step()
        return total

    def _skip(self, epoch: int) -> None:
        """Count a step that was not taken.

        Raises:
            DivergedError: too many of them came one after the other.
        """
        self.skipped += 1
        self._skipped_at_once += 1
        if self._skipped_at_once > self._config.skip_limit:
            self.step += 1
            times = self._skipped_at_once
            what = "loss or gradient became infinite or NaN"
            raise self._diverged(what if times == 1 else f"{what} {times} times in a row", epoch)

    def _share(self, targets: Tensor) -> float | Tensor:
        """Return what makes the mean over processes of mean losses the mean over what counts."""
        if not self._processes.several or targets.is_floating_point() or targets.ndim < 2:
            return 1.0
        own = (targets != IGNORED).sum().float()
        everywhere = self._processes.sum_(own.clone()).clamp_min(1.0)
        return self._processes.count * own / everywhere

    def _averaged(self, model: nn.Module, batch: tuple[ExampleInputs, Tensor]) -> nn.Module:
        """Return the model as processes run it together."""
        if not self._processes.several or is_sharded(model):
            return model
        if self._forward is None or self._forward[0] is not model:
            unused = self._has_unused(model, batch)
            self._forward = model, averaging(model, find_unused=unused)
        return self._forward[1]

    def _has_unused(self, model: nn.Module, batch: tuple[ExampleInputs, Tensor]) -> bool:
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

    @contextmanager
    def _in_memory(self, inputs: ExampleInputs) -> Iterator[None]:
        """Say what to do where the memory is too small for a batch."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            size, accumulate = batch_size(inputs) * self._processes.count, 2 * self._accumulate
            raise TrainingError(
                f"out of memory on {self._device} with a batch of {size}",
                hint=f"--batch-size {max(2, size // 2)} --accumulate {accumulate} takes the same"
                " steps in half of the memory; training.checkpointing needs less too",
            ) from error

    def _autocast(self) -> AbstractContextManager[object]:
        if self._config.precision == "fp32":
            return nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)

    def _report(
        self,
        optimizer: ProximalOptimizer,
        loss: Tensor | None,
        first_step: int,
        shown: Callable[[], Mapping[str, float]],
    ) -> None:
        values = {"lr": optimizer.param_groups[0]["lr"], **shown()}
        if loss is not None:
            values = {"loss": float(loss), **values}
        self._observer.train_step(self.step - first_step, values)

    def _diverged(self, what: str, epoch: int) -> DivergedError:
        return DivergedError(
            f"{what} at step {self.step} of {self.total}, in epoch {epoch}",
            hint=f"lower --lr (now {self._config.step_size:g})",
        )
