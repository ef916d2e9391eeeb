"""The training loop: RAMDA until the channels that have to go are exactly zero, and after."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.data.bundle import DataBundle
from ramda_cli.data.seeds import mixed_seed
from ramda_cli.errors import ConfigError, FileFormatError, first_line
from ramda_cli.observer import Observer
from ramda_cli.optimizers import Penalty, carry_state_
from ramda_cli.optimizers.carry import Kept
from ramda_cli.structure.matrices import Matrix
from ramda_cli.training.batch_norm import recompute_batch_norm_, running_averages
from ramda_cli.training.budget import Budget, Mask
from ramda_cli.training.evaluation import evaluate
from ramda_cli.training.methods import StageSettings, build_method
from ramda_cli.training.objective import Objective
from ramda_cli.training.passes import DivergedError, Passes
from ramda_cli.training.processes import ALONE, Processes
from ramda_cli.training.randomness import random_state, set_random_state
from ramda_cli.training.records import Epoch, Trained
from ramda_cli.training.sharding import load_whole_state, whole_state

State = Mapping[str, Any]
"""What `Training.state_dict` returns."""

_MOST_DIVERGED = 3
"""Times that a run diverges before it ends."""


class Training:
    """A fine-tuning run: `prune`, then `recover` with the smaller model or `go_on` with the same.

    `prune` ends with the zero set as it was asked for, exact and final. What is zero can then be
    taken out, and the epochs that are left train what remains, at its lower cost.

    With a budget, lr decays linearly to zero over all epochs; the zero set follows a ramp, is
    frozen at `config.freeze` of the run, snapped to exact zero, and the averages restart there.
    Without one, the penalties' weight and the milestones decide, as in the paper: lr and eps shrink
    tenfold and the averages restart at each, and in the last stage momentum rises to 1, so that the
    last iterate is a prox output.

    Args:
        model: on `device`; trained in place.
        penalties: what is regularized; with a budget in the order of its groups.
        data: loaders.
        config: how.
        budget: what to come down to, or None.
        macs_share: measures the weights as they are, where no budget says it.
        device: where to train.
        observer: is told of every step.
        after_epoch: called after each validation, and once before training.
        after_step: called after each step; may raise to stop.
        begun: called before the first epoch after the zero set is final.
        last_good: returns what `state_dict` did at some earlier time, for a run that diverged.
        matrices: weights that may lose ranks; with a budget those of its cost.
        processes: that train together; all of them do all of this.
        teacher: what the model learns from, in place of a copy of it.

    Raises:
        ConfigError: weights are to be averaged after the removal, and nothing follows it; or
            gradients in fp16 would need a scale.
        TrainingError: of the methods: loss, gradients or weights are not finite, again and again.
    """

    def __init__(
        self,
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
        after_step: Callable[[], None] = lambda: None,
        begun: Callable[[], None] = lambda: None,
        last_good: Callable[[], State | None] = lambda: None,
        matrices: Sequence[Matrix] = (),
        processes: Processes = ALONE,
        teacher: nn.Module | None = None,
    ) -> None:
        if config.precision == "fp16" and any(p.dtype == torch.float16 for p in model.parameters()):
            raise ConfigError(
                "training.precision fp16 is for weights in fp32, and the model's are in fp16",
                hint="leave --precision out, or give the model in full precision",
            )
        self._model = model
        self._data = data
        self._config = config
        self._device = device
        self._observer = observer
        self._after_epoch = after_epoch
        self._after_step = after_step
        self._begun = begun
        self._last_good = last_good
        objective = Objective(model, config, data.task, teacher=teacher)
        self._processes = processes
        self._passes = Passes(
            data, config, objective, device=device, observer=observer, processes=processes
        )
        if processes.several:  # what is dropped out differs between them
            torch.manual_seed(mixed_seed(config.seed, processes.rank))
        per_epoch, steps = self._passes.per_epoch, self._passes.total
        latest = steps - per_epoch * (config.recover_epochs or 0)
        self._method = build_method(
            model, penalties, config,
            budget=budget, steps=steps, latest_freeze=latest, matrices=matrices,
        )  # fmt: skip
        self._has_budget = budget is not None
        # For the time to the end: a third of a step is taken to shrink with the model.
        self._pace_of_smaller = 1.0 if budget is None else (2 + budget.share) / 3
        rule = self._method.rule
        self._measure = macs_share if rule is None else lambda: rule.macs_share
        if config.recover_epochs is None and self._has_budget:
            latest = self._method.freeze_step
        self._removal_epoch = math.ceil(latest / per_epoch)
        if config.ema is not None and self._removal_epoch == config.epochs:
            raise ConfigError(
                "training.ema averages the weights after the removal, and no epoch follows it",
                hint="give --recover-epochs, the epochs that do, or leave training.ema out",
            )
        self._history: list[Epoch] = []
        self._frozen_zero: Mask | None = None
        self._zero_before: Mask | None = None
        self._removed = False
        self._decided = False
        self._seconds = 0.0
        self._started: float | None = None
        self._times_diverged = 0
        self._average: ModelEmaV3 | None = None

    @property
    def step(self) -> int:
        """Steps that are done."""
        return self._passes.step

    @property
    def epochs_left(self) -> int:
        """Epochs that are still to be trained."""
        return self._config.epochs - self._epoch

    def prune(self) -> None:
        """Train until the zero set is final, and make it exact; after `load_state_dict` go on."""
        begins = not self._history
        if begins:
            sparsity = 0.0 if self._method.penalties else None
            level = 0.0 if self._method.matrices else None
            metric = self._evaluate(self._model)
            self._history.append(Epoch(0, metric, group_sparsity=sparsity, low_rank_level=level))
        with self._training(self._removal_epoch):
            if begins:
                first = self._history[0]
                self._observer.validated(0, self._told(first) | {"macs_share": 1.0})
                self._after_epoch(first)
            self._run(self._removal_epoch)

    def go_on(self, state: State | None = None) -> None:
        """Train the same model to the end; what is zero stays so.

        Args:
            state: of this part of the run, to resume it.
        """
        if not self._has_budget:
            self._method.hold(self._zero(), macs_share=self._history[-1].macs_share)
        self._recover(state)

    @property
    def ranks(self) -> dict[str, tuple[int, int]]:
        """Rank and full rank of each matrix, by parameter."""
        return self._method.optimizer.ranks()

    def recover(self, smaller: nn.Module, kept: Kept, state: State | None = None) -> None:
        """Train the smaller model to the end; the optimizer's state is carried over to it.

        Where weights have become products of two it starts anew: factors have no past.

        Args:
            smaller: on the device; trained in place.
            kept: of the removal plan.
            state: of this part of the run, to resume it.
        """
        method = self._method.without_penalties(smaller)
        if not self._method.matrices:
            carry_state_(method.optimizer, self._method.optimizer, kept)
        self._model, self._method, self._removed = smaller, method, True
        self._recover(state)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a run depends on between two steps, to go on bit by bit."""
        return {
            "decided": self._decided,
            "model": whole_state(self._model),
            "optimizer": self._method.optimizer.state_dict(),
            "average": None if self._average is None else self._average.module.state_dict(),
            "passes": self._passes.state_dict(),
            "history": [asdict(epoch) for epoch in self._history],
            "seconds": self._seconds_so_far(),
            "times_diverged": self._times_diverged,
            "random": self._processes.gather(random_state(self._device)),
            "frozen_zero": _tensor(self._frozen_zero),
            "zero_before": _tensor(self._zero_before),
        }

    def load_state_dict(self, state: State) -> None:
        """Put the run where `state_dict` found one; of the same settings, data and method.

        Before `prune` the state may be of that part of the run alone; that of a later part is given
        to `recover` or `go_on`.

        Raises:
            FileFormatError: it is of another run, or damaged.
        """
        try:
            self._load(state)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise FileFormatError(
                f"the checkpoint does not fit this run: {first_line(error)}",
                hint="start anew with --overwrite",
            ) from error

    def _load(self, state: State) -> None:
        load_whole_state(self._model, state["model"])
        self._method.optimizer.load_state_dict(state["optimizer"])
        if self._average is not None and state["average"] is not None:
            self._average.module.load_state_dict(state["average"])
        self._passes.load_state_dict(state["passes"])
        self._history = [Epoch(**epoch) for epoch in state["history"]]
        self._times_diverged = state["times_diverged"]
        self._seconds = state["seconds"]
        if self._started is not None:
            self._started = time.monotonic()
        self._frozen_zero = _mask(state["frozen_zero"])
        self._zero_before = _mask(state["zero_before"])
        states = state["random"]
        if self._processes.rank < len(states):
            set_random_state(states[self._processes.rank], self._device)

    def result(self) -> Trained:
        """Return what was measured."""
        return Trained(
            self._method.label,
            tuple(self._history),
            self._passes.step,
            self._seconds,
            self._stability(),
            self._removal_epoch if self._removed else None,
        )

    @property
    def _epoch(self) -> int:
        return self._history[-1].epoch if self._history else 0

    @property
    def _removal_step(self) -> int:
        return self._removal_epoch * self._passes.per_epoch

    def _recover(self, state: State | None) -> None:
        share = self._history[-1].macs_share
        self._measure = lambda: share
        if not self._has_budget:
            # The sums hold the pull of a shrinkage that is over.
            self._method.restart()
        if self._config.ema is not None:
            self._average = ModelEmaV3(self._model, decay=self._config.ema, use_warmup=True)
        self._decided = True
        if state is not None:
            self.load_state_dict(state)
        with self._training(self._config.epochs):
            if state is None:
                self._zero_before = self._zero()
                self._begun()
            self._run(self._config.epochs)

    @contextmanager
    def _training(self, last: int) -> Iterator[None]:
        self._started = time.monotonic()
        steps = last * self._passes.per_epoch - self._passes.step
        later = self._pace_of_smaller * (self._passes.total - last * self._passes.per_epoch)
        self._observer.train_start(steps, self._config.epochs, round(later))
        yield
        self._observer.train_end()
        self._seconds, self._started = self._seconds_so_far(), None

    def _seconds_so_far(self) -> float:
        running = 0.0 if self._started is None else time.monotonic() - self._started
        return self._seconds + running

    def _run(self, last: int) -> None:
        first_step = self._passes.step
        if self._zero_before is None:
            self._zero_before = self._zero()
        while self._epoch < last:
            epoch = self._epoch + 1
            try:
                loss = self._passes.run(
                    epoch,
                    self._model,
                    self._method.optimizer,
                    first_step=first_step,
                    before_step=self._schedule,
                    after_step=self._follow,
                    passed_over=self._pass_over,
                    shown=self._shown,
                )
            except DivergedError as error:
                self._step_back(error)
                continue
            self._share_statistics()
            if epoch == last:
                self._finish()
            zero = self._zero()
            self._processes.require_equal(_digest(zero), "the zero set")
            change = float((zero != self._zero_before).mean()) if zero.size else None
            measured, self._zero_before = self._measured(epoch, loss, change), zero
            self._history.append(measured)
            self._observer.validated(epoch, self._told(measured))
            self._after_epoch(measured)

    def _step_back(self, error: DivergedError) -> None:
        """Go on from the last state that was kept, with half the step size.

        Raises:
            TrainingError: there is none, or it did not help.
        """
        times = self._times_diverged + 1
        state = self._last_good() if times < _MOST_DIVERGED else None
        if state is None:
            raise error
        self.load_state_dict(state)
        self._times_diverged = times
        self._observer.note(
            f"{error}: back at step {self._passes.step}, with step sizes times {0.5**times:g}"
        )

    def _measured(self, epoch: int, loss: float, zero_set_change: float | None) -> Epoch:
        optimizer, shown = self._method.optimizer, self._shown()
        averaged = self._average.module if self._average is not None else self._model
        return Epoch(
            epoch,
            self._evaluate(averaged),
            loss,
            shown.get("group_sparsity"),
            shown["macs_share"],
            optimizer.param_groups[0]["lr"],
            float(optimizer.certificate) if self._solves else None,
            zero_set_change,
            shown.get("low_rank_level"),
            self._passes.skipped,
        )

    @property
    def _solves(self) -> bool:
        """Whether steps have a subproblem with a certificate; ranks by a rule have none."""
        method = self._method
        return bool(method.penalties or (method.matrices and not self._has_budget))

    def _evaluate(self, model: nn.Module) -> float:
        return evaluate(model, self._data.task, self._data.val, device=self._device)

    def _told(self, epoch: Epoch) -> dict[str, float]:
        shown = epoch.shown
        if not self._data.task.metric.is_share:
            shown["plain_metric"] = shown.pop("metric")
        return shown

    def _schedule(self) -> None:
        step, config = self._passes.step, self._config
        warm_up = config.warm_up * self._passes.per_epoch
        rising = min(1.0, (step + 1) / warm_up) if warm_up else 1.0
        rising *= 0.5**self._times_diverged
        if self._has_budget:
            (param_group,) = self._method.optimizer.param_groups
            param_group["lr"] = rising * self._method.lr(config.step_size, step, self._passes.total)
            return
        epoch, milestones = step // self._passes.per_epoch, config.milestones
        passed = sum(epoch >= milestone for milestone in milestones)
        if step % self._passes.per_epoch == 0 and epoch in milestones:
            self._method.restart()
        momentum: float | None = None
        if step >= self._removal_step:
            momentum = config.momentum
        elif passed == len(milestones):
            began = milestones[-1] * self._passes.per_epoch if milestones else 0
            # The last iterate is a prox output even where the stage was too short to get there.
            ends = step + 1 == self._removal_step
            momentum = 1.0 if ends else min(1.0, config.momentum * math.sqrt(step + 1 - began))
        self._method.set_stage(
            StageSettings(
                rising * config.step_size * 0.1**passed, config.eps * 0.1**passed, momentum
            )
        )

    def _follow(self) -> None:
        if self._average is not None:
            self._average.update(self._model, step=self._passes.step - self._removal_step)
        rule = self._method.rule
        if rule is not None and rule.frozen and self._frozen_zero is None:
            # The zero set stays from here on: make it exact, and start the averages anew.
            self._frozen_zero = rule.zero.copy()
            self._method.optimizer.snap_()
            self._method.restart()
        self._after_step()

    def _pass_over(self) -> None:
        if self._method.rule is not None:
            self._method.rule.pass_over()

    def _finish(self) -> None:
        """Leave exact zeros, averaged weights and fitting BatchNorm statistics."""
        self._method.optimizer.snap_()
        if self._average is not None:
            self._model.load_state_dict(self._average.module.state_dict())
            self._average = None
        if not self._config.freeze_batch_norm and recompute_batch_norm_(
            self._model, self._data.train, device=self._device
        ):
            self._share_statistics()
            self._observer.stage("recompute", "BatchNorm statistics")

    def _share_statistics(self) -> None:
        """Give all processes the means of their BatchNorm statistics."""
        models = [self._model, *([self._average.module] if self._average is not None else [])]
        for model in models:
            self._processes.mean_(running_averages(model))

    def _shown(self) -> Mapping[str, float]:
        optimizer, last = self._method.optimizer, self._history[-1]
        sparsity, level = last.group_sparsity, last.low_rank_level
        if self._method.penalties:
            sparsity = float(optimizer.weighted_group_sparsity())
        if self._method.matrices:
            level = optimizer.low_rank_level()
        shown = {"group_sparsity": sparsity, "low_rank_level": level}
        known = {name: value for name, value in shown.items() if value is not None}
        return {**known, "macs_share": self._measure()}

    def _zero(self) -> Mask:
        return self._method.optimizer.solution_zero.cpu().numpy().copy()

    def _stability(self) -> float | None:
        if self._frozen_zero is None or not self._frozen_zero.size:
            return None
        if not self._method.penalties:
            return 1.0  # what was frozen is what was taken out
        end = self._zero()
        either = int(np.logical_or(end, self._frozen_zero).sum())
        return 1.0 if either == 0 else int((end & self._frozen_zero).sum()) / either


def _tensor(mask: Mask | None) -> Tensor | None:
    return None if mask is None else torch.from_numpy(mask)


def _mask(tensor: Tensor | None) -> Mask | None:
    return None if tensor is None else tensor.numpy().copy()


def _digest(mask: Mask) -> str:
    return hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
