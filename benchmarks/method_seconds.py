"""Time an epoch of each method of a comparison beside AdamW, in turns.

    python benchmarks/method_seconds.py configs/paper/small/vgg11-cifar10.yaml --rounds 5

Every round trains one epoch by each method, validation left out, and counts the processor time of
this process: with one thread (OMP_NUM_THREADS=1) it hardly depends on what runs beside. The first
round warms up. Prints medians over rounds, and of the ratios to AdamW and to ProxGen in the same
round.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from ramda_cli.config.comparison import load_comparison
from ramda_cli.config.schema import RunConfig
from ramda_cli.observer import SilentObserver
from ramda_cli.optimizers import penalties
from ramda_cli.pipeline.loading import load_run
from ramda_cli.pipeline.ranks import choose_matrices, hold_channels
from ramda_cli.structure import input_channel_structure
from ramda_cli.training.methods import build_method
from ramda_cli.training.objective import Objective
from ramda_cli.training.passes import Passes
from ramda_cli.training.regularizer import build_regularizer

ADAMW = "torch.optim.AdamW"
CPU = torch.device("cpu")


class Trainer:
    """One method, an epoch at a time.

    Args:
        config: of its run.
        adamw: whether torch's AdamW takes its place.
    """

    def __init__(self, config: RunConfig, *, adamw: bool = False) -> None:
        loaded, data = load_run(config)
        self.model, settings = loaded.module, config.structure
        matrices = choose_matrices(self.model, settings.low_rank, keep=settings.keep)
        own = input_channel_structure(self.model, keep=settings.keep)
        groups = penalties(hold_channels(own, matrices), build_regularizer(config.training))
        method = build_method(
            self.model, groups if settings.penalize == "paper" else [], config.training,
            budget=None, steps=1, matrices=matrices,
        )  # fmt: skip
        self.optimizer: Any = method.optimizer
        if adamw:
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.0)
        objective = Objective(self.model, config.training, data.task)
        self.passes = Passes(
            data, config.training, objective, device=CPU, observer=SilentObserver()
        )
        self.epoch = 0

    def seconds(self) -> float:
        """Train one more epoch and return the processor time it took."""
        self.epoch += 1
        started = time.process_time()
        self.passes.run(
            self.epoch, self.model, self.optimizer, first_step=0, before_step=lambda: None,
            after_step=lambda: None, passed_over=lambda: None, shown=dict,
        )  # fmt: skip
        return time.process_time() - started


def main() -> None:
    """Time the methods and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    options = parser.parse_args()
    sets = [*options.sets, f"training.epochs={options.rounds + 1}", "training.milestones=[]"]
    runs = load_comparison(options.config, {}, sets, seeds=[0]).chosen
    settings = runs[0].config.structure
    if settings.penalize != "paper" and settings.low_rank != ("*",):
        parser.error("only comparisons of the paper's groups, or of ranks everywhere, are timed")
    trainers = {run.label: Trainer(run.config) for run in runs}
    trainers[ADAMW] = Trainer(runs[0].config, adamw=True)
    rounds: list[dict[str, float]] = []
    for _ in range(options.rounds + 1):
        rounds.append({label: trainer.seconds() for label, trainer in trainers.items()})
    rounds.pop(0)
    others = [label for label in (ADAMW, "ProxGen") if label in trainers]
    table = {
        label: {
            "seconds": round(statistics.median(r[label] for r in rounds), 3),
            **{
                f"to {other}": round(statistics.median(r[label] / r[other] for r in rounds), 3)
                for other in others
            },
        }
        for label in trainers
    }
    print(json.dumps({"config": str(options.config), "rounds": len(rounds), "methods": table}))


if __name__ == "__main__":
    main()
