"""Training with what a user needs around it: checkpoints, a log, and a way to stop."""

import contextlib
import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.data.bundle import DataBundle
from ramda_cli.errors import Interrupted, TrainingError
from ramda_cli.export import save
from ramda_cli.observer import Observer
from ramda_cli.optimizers import Penalty
from ramda_cli.pipeline.ranks import ranks_lost
from ramda_cli.pipeline.workspace import Workspace
from ramda_cli.report.formatting import counted
from ramda_cli.structure import Structure, identify
from ramda_cli.structure.cost import CostModel
from ramda_cli.surgery import RemovalPlan
from ramda_cli.training import Budget, Epoch, Trained, Training
from ramda_cli.training.memory import checkpoint_activations_
from ramda_cli.training.methods import LABELS


class Fit:
    """A training run that keeps the weights after every epoch, and logs a line.

    Before the removal a checkpoint is a state dict of the dense model; after it, a file that
    `ramda_cli.load` reads.

    Args:
        model: trained in place.
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
    ) -> None:
        # Convolutions are faster with the channels innermost, on the CPU as on a GPU.
        model.to(device).to(memory_format=torch.channels_last)
        if config.checkpointing:
            checkpoint_activations_(model)
        self._config = config
        self._details = details
        self._device = device
        self._workspace = workspace
        self._observer = observer
        self._model = model
        self._plan: RemovalPlan | None = None
        self._good_epoch = 0

        def macs_share() -> float:
            lost = ranks_lost(cost.matrices, self.ranks) if cost.matrices else {}
            kept = cost.kept({**identify(model, structure).removable, **lost})
            return cost.macs(kept) / max(1, cost.macs(cost.channels))

        self._training = Training(
            model, penalized, data, config,
            budget=budget, macs_share=macs_share, device=device, observer=observer,
            after_epoch=self._after_epoch, matrices=cost.matrices,
        )  # fmt: skip

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
            TrainingError: the loss is not finite; the weights of the last good epoch are kept.
        """
        self._observer.stage("train", f"{LABELS[self._config.method]} on {self._device}")
        with self._explaining():
            self._training.prune()

    def go_on(self) -> None:
        """Train the same model to the end.

        Raises:
            TrainingError: as `prune`.
        """
        self._observer.stage("train", f"{counted(self.epochs_left, 'epoch')} more, zeros held")
        # The removal looked at it on the CPU.
        self._model.to(self._device).to(memory_format=torch.channels_last)
        with self._explaining():
            self._training.go_on()

    def recover(self, smaller: nn.Module, plan: RemovalPlan) -> None:
        """Train the smaller model to the end, in place.

        Raises:
            TrainingError: as `prune`.
        """
        self._observer.stage(
            "recover", f"{counted(self.epochs_left, 'epoch')} of the smaller model"
        )
        self._model, self._plan = smaller, plan
        smaller.to(self._device).to(memory_format=torch.channels_last)
        with self._explaining():
            self._training.recover(smaller, plan.kept)

    def result(self) -> Trained:
        """Return what was measured."""
        return self._training.result()

    @contextlib.contextmanager
    def keeping_interrupted_weights(self) -> Iterator[None]:
        """Turn Ctrl-C into an error that says where the weights so far are."""
        try:
            yield
        except KeyboardInterrupt as error:
            path = self._save("interrupted")
            directory = self._workspace.directory
            raise Interrupted(
                f"interrupted; {directory} is marked INCOMPLETE and holds no result",
                hint=f"start again from the weights so far with --weights {path} and another -o"
                if self._plan is None
                else f"the smaller model so far is in {path}; `ramda eval` measures it",
            ) from error

    def _after_epoch(self, epoch: Epoch) -> None:
        self._save("last")
        self._workspace.append_line("metrics.jsonl", asdict(epoch))
        self._good_epoch = epoch.epoch

    def _save(self, name: str) -> Path:
        if self._plan is None:
            return self._workspace.save_weights(self._model, name)
        path = self._workspace.checkpoint(name)
        with self._workspace.writing(path):
            save(copy.deepcopy(self._model).cpu(), self._plan, path, details=self._details)
        return path

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except TrainingError as error:
            kept = self._workspace.checkpoint("last")
            raise TrainingError(
                str(error),
                hint=f"{error.hint}; the weights after epoch {self._good_epoch} are in {kept}",
            ) from error
