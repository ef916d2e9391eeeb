"""Training with what a user needs around it: checkpoints, a log, and a way to stop and go on."""

import contextlib
import copy
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.data.bundle import DataBundle
from ramda_cli.data.loader import is_worker_death, worker_died
from ramda_cli.errors import DataError, TrainingError, first_line
from ramda_cli.export import read_state, save
from ramda_cli.observer import Observer
from ramda_cli.optimizers import Penalty
from ramda_cli.pipeline.ranks import ranks_lost
from ramda_cli.pipeline.resuming import Earlier, Run
from ramda_cli.pipeline.stopping import Stop, StopRequest
from ramda_cli.pipeline.tracking import ReportingObserver, Trackers
from ramda_cli.pipeline.workspace import DECIDED, STATE, Workspace
from ramda_cli.report.formatting import counted
from ramda_cli.structure import Structure, identify
from ramda_cli.structure.cost import CostModel
from ramda_cli.surgery import RemovalPlan
from ramda_cli.training import Budget, Epoch, State, Trained, Training
from ramda_cli.training.memory import checkpoint_activations_
from ramda_cli.training.methods import LABELS
from ramda_cli.training.processes import ALONE, Processes, is_lost
from ramda_cli.training.sharding import shard_, whole_state

_SAVE, _STOP = 1, 2


class Fit:
    """A training run that keeps what it needs to go on after every epoch, and logs a line.

    | checkpoint | holds |
    |---|---|
    | `last` | the weights after an epoch: a state dict of the dense model, or after the removal a |
    | | file that `ramda_cli.load` reads |
    | `best` | after the removal, those of the epoch with the best metric |
    | `state` | all that training depends on, at most `output.checkpoint_minutes` old |
    | `decided` | the same when the zero set was final, from which the removal is done again |

    Args:
        model: trained in place; where it is sharded, it gets the weights after each part.
        structure: of the model.
        penalized: what is regularized.
        data: loaders.
        config: how.
        cost: of the model.
        budget: what to come down to, or None.
        details: facts for the headers of checkpoints.
        device: where to train.
        workspace: where checkpoints go.
        observer: is told of every step.
        run: what it goes by in checkpoints.
        checkpoint_seconds: after which one is written within an epoch.
        stop: whether to stop after a step.
        earlier: what to go on with, or None.
        processes: that train together; the first one writes.

    Raises:
        ConfigError: a setting has nothing to act on.
    """

    def __init__(
        self,
        model: nn.Module,
        structure: Structure,
        penalized: list[Penalty],
        data: DataBundle,
        config: TrainingConfig,
        *,
        cost: CostModel,
        budget: Budget | None,
        details: Mapping[str, Any],
        device: torch.device,
        workspace: Workspace,
        observer: Observer,
        run: Run,
        checkpoint_seconds: float,
        stop: StopRequest,
        earlier: Earlier | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self._whole = model
        teacher: nn.Module | None = None
        if config.shard:
            observer.note(f"each of {processes.count} processes holds a part of every parameter")
            if config.distill:
                teacher = shard_(copy.deepcopy(model).eval(), processes, device)
                teacher.requires_grad_(False)
            model = shard_(copy.deepcopy(model), processes, device)
        # Convolutions are faster with the channels innermost, on the CPU as on a GPU.
        else:
            model.to(device).to(memory_format=torch.channels_last)
        if config.checkpointing:
            checkpoint_activations_(model)
        self._config = config
        self._details = details
        self._device = device
        self._workspace = workspace
        trackers = Trackers(
            run.config.output.report_to if processes.is_first else (), workspace.directory,
            run.config,
        )  # fmt: skip
        self._trackers = trackers
        observer = ReportingObserver(observer, trackers, lambda: self._training.step)
        self._observer = observer
        self._model = model
        self._plan: RemovalPlan | None = None
        self._metric = data.task.metric
        self._run = run
        self._checkpoint_seconds = checkpoint_seconds
        self._stop = stop
        self._earlier = earlier
        self._processes = processes
        self._later: State | None = None
        self._saved_at = time.monotonic()

        def macs_share() -> float:
            lost = ranks_lost(cost.matrices, self.ranks) if cost.matrices else {}
            kept = cost.kept({**identify(model, structure).removable, **lost})
            return cost.macs(kept) / max(1, cost.macs(cost.channels))

        self._training = Training(
            model, penalized, data, config,
            budget=budget, macs_share=macs_share, device=device, observer=observer,
            after_epoch=self._after_epoch, after_step=self._after_step,
            begun=self._save_state, last_good=self._last_good, matrices=cost.matrices,
            processes=processes, teacher=teacher,
        )  # fmt: skip

    def _bring_back(self) -> None:
        """Give the whole model the weights of the sharded one."""
        if self._config.shard:
            self._whole.load_state_dict(whole_state(self._model))

    @property
    def epochs_left(self) -> int:
        """Epochs that are still to be trained."""
        return self._training.epochs_left

    @property
    def ranks(self) -> dict[str, tuple[int, int]]:
        """Rank and full rank of each weight that may lose ranks, by parameter."""
        return self._training.ranks

    def prune(self) -> None:
        """Train until what is asked for is exactly zero.

        Raises:
            TrainingError: loss or gradients are not finite; the last checkpoint stays.
            Stop: it was asked to, and goes on from the last checkpoint.
        """
        self._observer.stage("train", f"{LABELS[self._config.method]} on {self._device}")
        with self._explaining():
            if self._earlier is not None:
                self._go_on_from(self._earlier)
            self._training.prune()
            if self._earlier is None or self._earlier.decided is None:
                self._save_state(DECIDED)
            self._bring_back()

    def go_on(self) -> None:
        """Train the same model to the end.

        Raises:
            TrainingError: as `prune`.
        """
        self._observer.stage("train", f"{counted(self.epochs_left, 'epoch')} more, zeros held")
        if not self._config.shard:  # the removal looked at it on the CPU
            self._model.to(self._device).to(memory_format=torch.channels_last)
        with self._explaining():
            self._training.go_on(self._later)
            self._bring_back()

    def recover(self, smaller: nn.Module, plan: RemovalPlan) -> None:
        """Train the smaller model to the end, in place.

        Raises:
            TrainingError: as `prune`.
        """
        self._observer.stage(
            "recover", f"{counted(self.epochs_left, 'epoch')} of the smaller model"
        )
        self._whole, self._plan = smaller, plan
        if self._config.shard:
            trained = shard_(copy.deepcopy(smaller), self._processes, self._device)
        else:
            trained = smaller.to(self._device).to(memory_format=torch.channels_last)
        self._model = trained
        with self._explaining():
            self._training.recover(trained, plan.kept, self._later)
            self._bring_back()

    def result(self) -> Trained:
        """Return what was measured, at the end."""
        self._trackers.finish()
        return self._training.result()

    def _go_on_from(self, earlier: Earlier) -> None:
        """Put training where it stood; what came after the removal waits for that."""
        state, decided = earlier.read(), earlier.read_decided()
        self._training.load_state_dict(state if decided is None else decided)
        if state["decided"]:
            self._later = state
        steps, epochs = state["passes"]["step"], len(state["history"]) - 1
        self._observer.note(f"goes on from step {steps}, {counted(epochs, 'epoch')} done")
        lines = "".join(json.dumps(epoch) + "\n" for epoch in state["history"])
        self._workspace.write_text("metrics.jsonl", lines)

    def _after_step(self) -> None:
        due = time.monotonic() - self._saved_at >= self._checkpoint_seconds
        wanted = _STOP if self._stop.asked else _SAVE if due else 0
        # A signal reaches one process before another, and clocks differ.
        wanted = self._processes.most(wanted, self._device)
        if wanted:
            self._save_state()
        if wanted == _STOP:
            raise Stop

    def _after_epoch(self, epoch: Epoch) -> None:
        self._save("last")
        if self._plan is not None and self._is_best(epoch):
            self._save("best")
        self._save_state()
        self._workspace.append_line("metrics.jsonl", asdict(epoch))

    def _is_best(self, epoch: Epoch) -> bool:
        trained = self._training.result()
        after = [e.metric for e in trained.history if e.epoch > (trained.removal_epoch or 0)]
        best = max(after) if self._metric.higher_is_better else min(after)
        return epoch.metric == best

    def _save(self, name: str) -> Path:
        if self._plan is None:
            return self._workspace.save_weights(whole_state(self._model), name)
        self._bring_back()
        path = self._workspace.checkpoint(name)
        if not self._workspace.writes:
            return path
        with self._workspace.writing(path):
            save(copy.deepcopy(self._whole).cpu(), self._plan, path, details=self._details)
        return path

    def _save_state(self, name: str = STATE) -> None:
        # Of all processes, because some of it is gathered from them.
        state = {"run": self._run.to_state(), "training": self._training.state_dict()}
        self._workspace.save_state(state, name)
        self._saved_at = time.monotonic()

    def _last_good(self) -> State | None:
        path = self._workspace.checkpoint(STATE)
        return read_state(path, "training") if path.is_file() else None

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        """Finish the step when asked to stop, and say how to go on."""
        directory = self._workspace.directory
        again = f"`ramda prune --resume -o {directory}` goes on from the last checkpoint"
        self._stop.patient = True
        try:
            yield
        except DataError as error:
            # No step was begun: nothing that was trained is lost. Others may be waiting in one.
            if not self._processes.several:
                self._save_state()
            raise DataError(str(error), hint=f"{error.hint}; then {again}") from error
        except RuntimeError as error:
            if is_worker_death(error):
                # Torch's signal handler says so in the middle of anything: of a step, too.
                died = worker_died(first_line(error))
                raise DataError(str(died), hint=f"{died.hint}; then {again}") from error
            if not (self._processes.several and is_lost(error)):
                raise
            raise TrainingError(
                f"process {self._processes.rank} of {self._processes.count} lost another one in"
                " training",
                hint=f"see what ended it; then {again}",
            ) from error
        except TrainingError as error:
            kept = self._workspace.checkpoint("last")
            raise TrainingError(
                str(error), hint=f"{error.hint}; the weights of the last epoch are in {kept}"
            ) from error
        finally:
            self._stop.patient = False
