"""Train a model under a nuclear norm by one of the paper's methods, and put runs side by side.

    python benchmarks/nuclear_norm_methods.py run configs/low-rank/mlp-mnist.yaml --method rmda \
        --lr 1e-1 --weight 5e-3 --seed 0 -o out/mlp/rmda-0.json
    python benchmarks/nuclear_norm_methods.py table out/mlp -o docs/results/low-rank/mlp

`run` takes data, batch size, epochs, milestones and momentum (c₀) of a `ramda prune` config. The
schedule is the paper's: at a milestone lr, and RAMDA's eps, shrink tenfold and dual averaging
restarts; in the last stage c rises as min(c₀ √k, 1). Every weight with two dimensions is penalized.
`table` writes table.md, table.json and curves.svg of all runs of a directory.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ramda_cli.config.loading import load_config
from ramda_cli.data.build import build_data
from ramda_cli.models.files import call_factory, load_factory
from ramda_cli.optimizers import RAMDA, RMDA, LowRankPenalty, ProxGen, ProximalOptimizer, ProxSGD
from ramda_cli.optimizers.dual_averaging import DualAveraging
from ramda_cli.regularizers import NuclearNorm

LABELS = {
    "ramda": "RAMDA", "rmda": "RMDA", "proxsgd": "ProxSGD", "proxgen": "ProxGen",
    "sgd": "SGD, dense", "adamw": "AdamW, dense",
}  # fmt: skip
_COLORS = dict(
    zip(LABELS, ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#636c76", "#636c76"), strict=True)
)


def main() -> None:
    """Run one method, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run")
    run.add_argument("config", type=Path)
    run.add_argument("--method", choices=LABELS, required=True)
    run.add_argument("--lr", type=float, required=True)
    run.add_argument("--weight", type=float, default=0.0)
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--every", type=int, default=1, help="steps of which one thresholds")
    run.add_argument("--set", action="append", default=[], dest="sets")
    run.add_argument("-o", "--output", type=Path, required=True)
    run.set_defaults(function=train)
    table = commands.add_parser("table")
    table.add_argument("runs", type=Path)
    table.add_argument("-o", "--output", type=Path, required=True)
    table.set_defaults(function=write_table)
    options = parser.parse_args()
    options.function(options)


def train(options: argparse.Namespace) -> None:
    """Train, and write one JSON document."""
    config = load_config(options.config, {}, [*options.sets, f"training.seed={options.seed}"])
    training = config.training
    factory, preprocessing = load_factory(config.model.name)
    torch.manual_seed(options.seed)
    model = call_factory(factory, config.model.name)
    data = build_data(config.data, preprocessing, seed=options.seed)
    optimizer = build_optimizer(options, model, momentum=training.momentum, eps=training.eps)
    if isinstance(optimizer, ProximalOptimizer):
        optimizer.threshold_every = options.every
    history: list[dict[str, float]] = []
    stages = [0, *training.milestones, training.epochs]
    seconds = 0.0
    for epoch in range(training.epochs):
        stage = max(i for i, first in enumerate(stages) if epoch >= first)
        if epoch in training.milestones and isinstance(optimizer, DualAveraging):
            optimizer.restart()
        (settings,) = optimizer.param_groups
        settings["lr"] = options.lr * 0.1**stage
        if isinstance(optimizer, RAMDA):
            settings["eps"] = training.eps * 0.1**stage
        model.train()
        started, total = time.monotonic(), 0.0
        for number, (x, targets) in enumerate(data.train):
            if stage == len(stages) - 2 and isinstance(optimizer, DualAveraging):
                k = (epoch - stages[stage]) * len(data.train) + number + 1
                settings["momentum"] = min(1.0, training.momentum * math.sqrt(k))
                if epoch + 1 == training.epochs and number + 1 == len(data.train):
                    settings["momentum"] = 1.0  # the last iterate is a prox output
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), targets)
            loss.backward()
            optimizer.step()
            total += float(loss.detach())
        seconds += time.monotonic() - started
        level = optimizer.low_rank_level() if isinstance(optimizer, ProximalOptimizer) else 0.0
        history.append(
            {
                "epoch": epoch + 1,
                "loss": total / len(data.train),
                "metric": measure(model, data.val),
                "low_rank_level": level,
            }
        )
        print(json.dumps(history[-1]), file=sys.stderr, flush=True)
    document = {
        "method": options.method, "lr": options.lr, "weight": options.weight,
        "momentum": training.momentum, "every": options.every, "seed": options.seed,
        "epochs": training.epochs,
        "milestones": list(training.milestones), "batch_size": config.data.batch_size,
        "train_size": data.train_size, "val_size": data.val_size,
        "metric": "top-1 accuracy",
        "seconds_per_epoch": seconds / training.epochs, "history": history,
        "ranks": {n: r for n, (r, _) in optimizer.ranks().items()}
        if isinstance(optimizer, ProximalOptimizer) else {},
    }  # fmt: skip
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document, indent=1) + "\n")


def build_optimizer(
    options: argparse.Namespace, model: nn.Module, *, momentum: float, eps: float
) -> torch.optim.Optimizer:
    """Return the method's optimizer, with every matrix penalized."""
    named = [*model.named_parameters()]
    norm = NuclearNorm(options.weight)
    penalties = [LowRankPenalty(name, norm) for name, p in named if p.ndim == 2]
    match options.method:
        case "ramda":
            return RAMDA(named, penalties, lr=options.lr, momentum=momentum, eps=eps)
        case "rmda":
            return RMDA(named, penalties, lr=options.lr, momentum=momentum)
        case "proxsgd":
            return ProxSGD(named, penalties, lr=options.lr)
        case "proxgen":
            return ProxGen(named, penalties, lr=options.lr)
        case "sgd":
            return torch.optim.SGD(model.parameters(), lr=options.lr, momentum=0.9)
        case _:
            return torch.optim.AdamW(model.parameters(), lr=options.lr)


@torch.no_grad()
def measure(model: nn.Module, batches: Iterable[Any]) -> float:
    """Return the accuracy."""
    model.eval()
    total = count = 0.0
    for x, targets in batches:
        total += float((model(x).argmax(1) == targets).sum())
        count += len(x)
    return total / count


def write_table(options: argparse.Namespace) -> None:
    """Write the table over seeds, and the curves of their means."""
    runs = [json.loads(path.read_text()) for path in sorted(options.runs.glob("*.json"))]
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "table.json").write_text(json.dumps(runs) + "\n")
    lines = [
        f"| method | lr | λ | {runs[0]['metric']} | low-rank level | its change in the last tenth |"
        " s per epoch |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for method in LABELS:
        found = [run for run in runs if run["method"] == method]
        if not found:
            continue
        metric = [100 * run["history"][-1]["metric"] for run in found]
        level = [100 * run["history"][-1]["low_rank_level"] for run in found]
        last = max(2, math.ceil(found[0]["epochs"] / 10))
        moves = [
            statistics.stdev(100 * e["low_rank_level"] for e in run["history"][-last:])
            for run in found
        ]
        seconds = [run["seconds_per_epoch"] for run in found]
        lines.append(
            f"| {LABELS[method]} | {found[0]['lr']:g} | {found[0]['weight']:g} |"
            f" {_spread(metric, 2)} | {_spread(level, 2)} | {_spread(moves, 2)} |"
            f" {statistics.mean(seconds):.1f} |"
        )
    (options.output / "table.md").write_text("\n".join(lines) + "\n")
    draw(runs, options.output / "curves.svg")


def _spread(values: list[float], digits: int) -> str:
    shown = f"{statistics.mean(values):.{digits}f}"
    return f"{shown} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else shown


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Draw metric and low-rank level against epochs, a band over the seeds."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for method in LABELS:
        found = [run["history"] for run in runs if run["method"] == method]
        for axis, key in zip(axes, ("metric", "low_rank_level"), strict=True):
            if not found or (key == "low_rank_level" and "dense" in LABELS[method]):
                continue
            columns = [*zip(*([entry[key] for entry in history] for history in found), strict=True)]
            epochs = range(1, len(columns) + 1)
            style = "--" if "dense" in LABELS[method] else "-"
            axis.plot(
                epochs, [statistics.mean(c) for c in columns], style,
                color=_COLORS[method], label=LABELS[method],
            )  # fmt: skip
            axis.fill_between(
                epochs, [min(c) for c in columns], [max(c) for c in columns],
                color=_COLORS[method], alpha=0.15, linewidth=0,
            )  # fmt: skip
    for axis, title in zip(axes, (runs[0]["metric"], "low-rank level"), strict=True):
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(path)


if __name__ == "__main__":
    main()
