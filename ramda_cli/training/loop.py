"""The training loop: RAMDA until the channels that have to go are exactly zero."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.data.bundle import DataBundle
from ramda_cli.errors import TrainingError
from ramda_cli.observer import Observer
from ramda_cli.optimizers import Penalty
from ramda_cli.training.batch_norm import recompute_batch_norm_
from ramda_cli.training.budget import Budget, Mask
from ramda_cli.training.evaluation import accuracy
from ramda_cli.training.methods import build_method
from ramda_cli.training.objective import Objective

_REPORT_EVERY = 10
"""Steps between readings of the loss, which make the device wait for the host."""


@dataclass(frozen=True)
class Epoch:
    """What was measured after an epoch; epoch 0 is before training.

    Attributes:
        loss: mean training loss over the epoch; None before training.
        metric: top-1 accuracy on the validation data.
        group_sparsity: share of penalized entries in zero channels.
        macs_share: MACs without these channels, as a share of dense.
        lr: at the end of the epoch.
        certificate: norm of the smallest subgradient of the last subproblem at its solution.
        zero_set_change: share of channels that became zero or revived in this epoch.
    """

    epoch: int
    metric: float
    loss: float | None = None
    group_sparsity: float = 0.0
    macs_share: float = 1.0
    lr: float | None = None
    certificate: float | None = None
    zero_set_change: float | None = None


@dataclass(frozen=True)
class Trained:
    """A finished training run.

    Attributes:
        method: what trained it, for the report.
        history: one entry per epoch.
        steps: optimizer steps.
        seconds: wall clock.
        zero_set_stability: overlap (Jaccard) of the zero set at the freeze and at the end; None
            without a target.
    """

    method: str
    history: tuple[Epoch, ...]
    steps: int
    seconds: float
    zero_set_stability: float | None


def train(
    model: nn.Module,
    penalties: list[Penalty],
    data: DataBundle,
    config: TrainingConfig,
    *,
    budget: Budget | None,
    macs_share: Callable[[], float],
    device: torch.device,
    observer: Observer,
    after_epoch: Callable[[Epoch], None],
) -> Trained:
    """Fine-tune a model in place until the zero set is what was asked for.

    With a budget, lr decays linearly to zero; the zero set follows a ramp, is frozen at
    `config.freeze` of the run, snapped to exact zero, and the averages restart there. Without one,
    the penalties' weight and the milestones decide, as in the paper: lr and eps shrink tenfold and
    the averages restart at each, and in the last stage momentum rises to 1, so that the last
    iterate is a prox output.

    Args:
        model: on `device`.
        penalties: what is regularized; with a budget in the order of its groups.
        data: loaders.
        config: how.
        budget: what to come down to, or None.
        macs_share: measures the weights as they are, where no budget says it.
        device: where to train.
        observer: is told of every step.
        after_epoch: called after each validation, and once before training.

    Raises:
        TrainingError: the loss is not finite.
    """
    return _Training(model, penalties, data, config, budget, device, observer).run(
        macs_share, after_epoch
    )


class _Training:
    def __init__(
        self,
        model: nn.Module,
        penalties: list[Penalty],
        data: DataBundle,
        config: TrainingConfig,
        budget: Budget | None,
        device: torch.device,
        observer: Observer,
    ) -> None:
        self._model = model
        self._data = data
        self._config = config
        self._device = device
        self._observer = observer
        self._epoch_steps = len(data.train)
        self._steps = config.epochs * self._epoch_steps
        self._method = build_method(model, penalties, config, budget=budget, steps=self._steps)
        self._rule, self._optimizer = self._method.rule, self._method.optimizer
        self._objective = Objective(model, config)
        self._frozen_zero: Mask | None = None
        self._stage_step = 0

    def run(self, macs_share: Callable[[], float], after_epoch: Callable[[Epoch], None]) -> Trained:
        started = time.monotonic()
        history = [Epoch(0, self._validate())]
        self._observer.train_start(self._steps, self._config.epochs)
        self._observer.validated(0, {"metric": history[0].metric, "macs_share": 1.0})
        after_epoch(history[0])
        step = 0
        zero = np.zeros(self._optimizer.solution_zero.numel(), dtype=bool)
        for epoch in range(1, self._config.epochs + 1):
            loss, step = self._run_epoch(epoch, step, macs_share)
            self._require_finite_weights(step, epoch)
            if epoch == self._config.epochs:
                self._finish()
            before, zero = zero, self._optimizer.solution_zero.cpu().numpy().copy()
            measured = Epoch(
                epoch,
                self._validate(),
                loss,
                float(self._optimizer.weighted_group_sparsity()),
                self._macs_share(macs_share),
                self._optimizer.param_groups[0]["lr"],
                float(self._optimizer.certificate),
                float((zero != before).mean()) if zero.size else 0.0,
            )
            history.append(measured)
            self._observer.validated(epoch, _values(measured))
            after_epoch(measured)
        self._observer.train_end()
        seconds = time.monotonic() - started
        return Trained(self._method.label, tuple(history), step, seconds, self._stability())

    def _run_epoch(
        self, epoch: int, step: int, macs_share: Callable[[], float]
    ) -> tuple[float, int]:
        self._model.train()
        total = torch.zeros((), device=self._device)
        for images, labels in self._data.train:
            self._schedule(step, epoch)
            loss = self._step(images.to(self._device), labels.to(self._device))
            total += loss
            step += 1
            if self._rule is not None and step == self._method.freeze_step:
                self._freeze()
            if step % _REPORT_EVERY == 0 or step % self._epoch_steps == 0:
                self._report(step, epoch, float(loss), macs_share)
        return float(total) / self._epoch_steps, step

    def _step(self, images: Tensor, labels: Tensor) -> Tensor:
        self._optimizer.zero_grad()
        with self._autocast():
            loss = self._objective(self._model, images, labels)
        loss.backward()
        if self._config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), self._config.clip_norm)
        self._optimizer.step()
        return loss.detach()

    def _autocast(self) -> AbstractContextManager[object]:
        if self._config.precision == "fp32":
            return nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)

    def _schedule(self, step: int, epoch: int) -> None:
        (param_group,) = self._optimizer.param_groups
        if self._rule is not None:
            param_group["lr"] = self._method.lr(self._config.lr, step, self._steps)
            return
        milestones = self._config.milestones
        passed = sum(epoch > milestone for milestone in milestones)
        if step % self._epoch_steps == 0 and epoch - 1 in milestones:
            self._method.restart()
            self._stage_step = 0
        param_group["lr"] = self._config.lr * 0.1**passed
        param_group["eps"] = self._config.eps * 0.1**passed
        self._stage_step += 1
        if passed == len(milestones):
            rising = self._config.momentum * math.sqrt(self._stage_step)
            # The last iterate is a prox output even where the stage was too short to get there.
            param_group["momentum"] = 1.0 if step + 1 == self._steps else min(1.0, rising)

    def _freeze(self) -> None:
        """Make the zero set, which stays from here on, exact, and start the averages anew."""
        if self._rule is None:
            return
        self._frozen_zero = self._rule.zero.copy()
        self._optimizer.snap_()
        self._method.restart()

    def _finish(self) -> None:
        self._optimizer.snap_()
        if recompute_batch_norm_(self._model, self._data.train, device=self._device):
            self._observer.stage("recompute", "BatchNorm statistics")

    def _validate(self) -> float:
        return accuracy(self._model, self._data.val, device=self._device)

    def _report(self, step: int, epoch: int, loss: float, macs_share: Callable[[], float]) -> None:
        if not math.isfinite(loss):
            raise self._diverged(f"the loss became {loss}", step, epoch)
        values = {
            "loss": loss,
            "group_sparsity": float(self._optimizer.weighted_group_sparsity()),
            "lr": self._optimizer.param_groups[0]["lr"],
            "macs_share": self._macs_share(macs_share),
        }
        self._observer.train_step(step, values)

    def _macs_share(self, measure: Callable[[], float]) -> float:
        # Until the freeze the weights only approach the zeros of the solution.
        return measure() if self._rule is None else self._rule.macs_share

    def _require_finite_weights(self, step: int, epoch: int) -> None:
        for parameter in self._model.parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise self._diverged("the weights became infinite or NaN", step, epoch)

    def _diverged(self, what: str, step: int, epoch: int) -> TrainingError:
        return TrainingError(
            f"{what} at step {step} of {self._steps}, in epoch {epoch}",
            hint=f"lower --lr (now {self._config.lr:g})",
        )

    def _stability(self) -> float | None:
        if self._rule is None or self._frozen_zero is None:
            return None
        end = self._optimizer.solution_zero.cpu().numpy()
        either = int(np.logical_or(end, self._frozen_zero).sum())
        return 1.0 if either == 0 else int((end & self._frozen_zero).sum()) / either


def _values(epoch: Epoch) -> Mapping[str, float]:
    values = {
        "loss": epoch.loss,
        "metric": epoch.metric,
        "group_sparsity": epoch.group_sparsity,
        "macs_share": epoch.macs_share,
        "lr": epoch.lr,
    }
    return {key: value for key, value in values.items() if value is not None}
