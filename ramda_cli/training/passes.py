"""Passes over the training data: a step for each batch, whatever model and optimizer."""

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.data.bundle import DataBundle
from ramda_cli.errors import TrainingError
from ramda_cli.observer import Observer
from ramda_cli.optimizers import ProximalOptimizer
from ramda_cli.optimizers.shards import local
from ramda_cli.training.batch_norm import freeze_batch_norm_
from ramda_cli.training.gradients import Gradients
from ramda_cli.training.mixing import Mixing
from ramda_cli.training.objective import Objective
from ramda_cli.training.processes import ALONE, Processes

_REPORT_EVERY = 10
"""Steps between two reports."""


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
        self._config = config
        self._carried = objective.carried
        self._device = device
        self._observer = observer
        self._accumulate = min(config.accumulate, len(data.train))
        self._gradients = Gradients(
            config, objective, Mixing(config, classes=len(data.class_names)),
            accumulate=self._accumulate, device=device, observer=observer, processes=processes,
        )  # fmt: skip
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
            self._carried.forget()
        first = done * self._accumulate
        if done < self.per_epoch:
            self._data.train.set_epoch(epoch - 1, first=first)
        else:  # what looks at the data next begins a pass, as it would after this one
            self._data.train.set_epoch(epoch)
        batches = enumerate(self._data.train, start=first)
        for _ in range(done, self.per_epoch):
            before_step()
            step_batches = islice(batches, self._accumulate)
            loss = self._gradients.compute(model, optimizer, step_batches, epoch)
            if loss is None:
                passed_over()
                self._skip(epoch)
            else:
                optimizer.step()
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
            "skipped_at_once": self._skipped_at_once, "gradients": self._gradients.state_dict(),
            "memory": self._carried.memory,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.step, self.skipped = state["step"], state["skipped"]
        self.loss_sum = state["loss_sum"].to(self._device, copy=True)
        self._skipped_at_once = state["skipped_at_once"]
        self._gradients.load_state_dict(state["gradients"])
        memory: Tensor | None = state["memory"]
        self._carried.memory = None if memory is None else memory.to(self._device, copy=True)

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
