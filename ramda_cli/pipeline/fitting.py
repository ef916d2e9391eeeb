"""Training with what a user needs around it: checkpoints, a log, and a way to stop."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict

import torch
from torch import nn

from ramda_cli.config.schema import TrainingConfig
from ramda_cli.data.bundle import DataBundle
from ramda_cli.errors import Interrupted, TrainingError
from ramda_cli.observer import Observer
from ramda_cli.optimizers import Penalty
from ramda_cli.pipeline.workspace import Workspace
from ramda_cli.structure import Structure, identify
from ramda_cli.structure.cost import CostModel
from ramda_cli.training import Budget, Epoch, Trained, train
from ramda_cli.training.methods import LABELS


def fit(
    model: nn.Module,
    structure: Structure,
    penalized: list[Penalty],
    data: DataBundle,
    config: TrainingConfig,
    *,
    cost: CostModel,
    budget: Budget | None,
    device: torch.device,
    workspace: Workspace,
    observer: Observer,
) -> Trained:
    """Train in place; after every epoch the weights are kept and a line is logged.

    Raises:
        TrainingError: the loss is not finite; the weights of the last good epoch are kept.
    """
    # Convolutions are faster with the channels innermost, on the CPU as on a GPU.
    model.to(device).to(memory_format=torch.channels_last)
    good_epoch = 0

    def after_epoch(epoch: Epoch) -> None:
        nonlocal good_epoch
        workspace.save_weights(model, "last")
        workspace.append_line("metrics.jsonl", asdict(epoch))
        good_epoch = epoch.epoch

    def macs_share() -> float:
        kept = cost.kept(identify(model, structure).removable)
        return cost.macs(kept) / max(1, cost.macs(cost.channels))

    observer.stage("train", f"{LABELS[config.method]} on {device}")
    try:
        return train(
            model, penalized, data, config,
            budget=budget, macs_share=macs_share, device=device, observer=observer,
            after_epoch=after_epoch,
        )  # fmt: skip
    except TrainingError as error:
        kept = workspace.path("checkpoints/last.safetensors")
        raise TrainingError(
            str(error), hint=f"{error.hint}; the weights after epoch {good_epoch} are in {kept}"
        ) from error


@contextlib.contextmanager
def keeping_interrupted_weights(workspace: Workspace, model: nn.Module) -> Iterator[None]:
    """Turn Ctrl-C into an error that says where the weights so far are."""
    try:
        yield
    except KeyboardInterrupt as error:
        path = workspace.save_weights(model, "interrupted")
        raise Interrupted(
            f"interrupted; {workspace.directory} is marked INCOMPLETE and holds no result",
            hint=f"start again from the weights so far with --weights {path} and another -o",
        ) from error
