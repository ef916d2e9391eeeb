"""Passes over the training data: a step for each batch, whatever model and optimizer."""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import islice

import torch
from torch import Tensor, nn

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.data.bundle import DataBundle
from ramda_cli.errors import TrainingError
from ramda_cli.observer import Observer
from ramda_cli.optimizers import ProximalOptimizer
from ramda_cli.tasks.inputs import ExampleInputs, moved
from ramda_cli.training.batch_norm import freeze_batch_norm_
from ramda_cli.training.mixing import Mixing
from ramda_cli.training.objective import Objective

_REPORT_EVERY = 10
"""Steps between readings of the loss, which make the device wait for the host."""


class Passes:
    """Counts steps over a run, and takes them.

    Args:
        data: loaders.
        config: how.
        objective: the loss of a batch.
        device: where to train.
        observer: is told of every step.
    """

    def __init__(
        self,
        data: DataBundle,
        config: TrainingConfig,
        objective: Objective,
        *,
        device: torch.device,
        observer: Observer,
    ) -> None:
        self._data = data
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

    def run(
        self,
        epoch: int,
        model: nn.Module,
        optimizer: ProximalOptimizer,
        *,
        first_step: int,
        before_step: Callable[[], None],
        after_step: Callable[[], None],
        shown: Callable[[], Mapping[str, float]],
    ) -> float:
        """Take the steps of an epoch, and return the mean loss.

        Args:
            epoch: counted from 1.
            model: on the device.
            optimizer: of its parameters.
            first_step: from which on the observer counts.
            before_step: sets the optimizer's settings for the step.
            after_step: is called when the step is done.
            shown: what the observer is told beside loss and lr.

        Raises:
            TrainingError: loss or weights are not finite.
        """
        model.train()
        if self._config.freeze_batch_norm:
            freeze_batch_norm_(model)
        self._data.train.set_epoch(epoch - 1)
        total = torch.zeros((), device=self._device)
        batches = enumerate(self._data.train)
        for _ in range(self.per_epoch):
            before_step()
            loss = self._take(model, optimizer, islice(batches, self._accumulate), epoch)
            total += loss
            self.step += 1
            after_step()
            if self.step % _REPORT_EVERY == 0 or self.step % self.per_epoch == 0:
                self._report(epoch, optimizer, float(loss), first_step, shown)
        if not all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters()):
            raise self._diverged("the weights became infinite or NaN", epoch)
        return float(total) / self.per_epoch

    def _take(
        self,
        model: nn.Module,
        optimizer: ProximalOptimizer,
        batches: Iterable[tuple[int, tuple[ExampleInputs, Tensor]]],
        epoch: int,
    ) -> Tensor:
        """Take a step on the mean gradient of some batches, and return their mean loss."""
        optimizer.zero_grad()
        total = torch.zeros((), device=self._device)
        for number, (inputs, targets) in batches:
            batch = moved(inputs, self._device), targets.to(self._device)
            mixed = self._mixing(*batch, epoch=epoch, batch=number)
            with self._autocast():
                loss = self._objective(model, *mixed) / self._accumulate
            loss.backward()
            total += loss.detach()
        if self._config.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), self._config.clip_norm)
        optimizer.step()
        return total

    def _autocast(self) -> AbstractContextManager[object]:
        if self._config.precision == "fp32":
            return nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)

    def _report(
        self,
        epoch: int,
        optimizer: ProximalOptimizer,
        loss: float,
        first_step: int,
        shown: Callable[[], Mapping[str, float]],
    ) -> None:
        if not math.isfinite(loss):
            raise self._diverged(f"the loss became {loss}", epoch)
        values = {"loss": loss, "lr": optimizer.param_groups[0]["lr"], **shown()}
        self._observer.train_step(self.step - first_step, values)

    def _diverged(self, what: str, epoch: int) -> TrainingError:
        return TrainingError(
            f"{what} at step {self.step} of {self.total}, in epoch {epoch}",
            hint=f"lower --lr (now {self._config.step_size:g})",
        )
