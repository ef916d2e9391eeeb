"""How a step of RAMDA grows: with the parameters, and with the number of groups.

    python benchmarks/optimizer_scaling.py docs/results/optimizer

Square weights with a group per input channel and random gradients, RAMDA and AdamW(fused=True) in
turns. First 1 M to 512 M parameters at a constant width, then 16 M parameters in 64 to 65,536
groups. Writes scaling.json and two plots.
"""

import json
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from ramda_cli.optimizers import RAMDA, Penalty
from ramda_cli.pipeline.devices import device_name
from ramda_cli.regularizers import GroupLasso
from ramda_cli.structure.groups import DependencyGroup, ParameterSlice

WIDTH = 1024
ROUNDS, WARM_UP = 15, 8
SIZES = [1 << 20, 1 << 23, 1 << 26, 1 << 29]
COUNTS = [1 << 6, 1 << 8, 1 << 10, 1 << 12, 1 << 14, 1 << 16]

Row = dict[str, Any]


def main() -> None:
    """Measure, and write the figures and the plots."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    rows = {"parameters": [*by_parameters()], "groups": [*by_groups()]}
    where = {
        "device": device_name(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
    }
    (directory / "scaling.json").write_text(json.dumps({**where, **rows}, indent=1) + "\n")
    plot(rows["parameters"], "parameters", directory / "parameters.svg", where)
    plot(rows["groups"], "groups", directory / "groups.svg", where)


def by_parameters() -> Iterator[Row]:
    """Yield the figures of more and more layers of one width."""
    for params in SIZES:
        layers = max(1, params // (WIDTH * WIDTH))
        yield measure([(params // layers // WIDTH, WIDTH)] * layers)


def by_groups() -> Iterator[Row]:
    """Yield the figures of 16 M parameters in more and more groups."""
    for groups in COUNTS:
        yield measure([((1 << 24) // groups, groups)])


def measure(shapes: list[tuple[int, int]]) -> Row:
    """Time both optimizers in turns."""
    generator = torch.Generator().manual_seed(0)
    named = {
        f"w{i}": nn.Parameter(torch.randn(shape, generator=generator) / shape[1] ** 0.5)
        for i, shape in enumerate(shapes)
    }
    penalties = []
    for name, parameter in named.items():
        channels = parameter.shape[1]
        part = ParameterSlice(name, 1, np.arange(channels)[:, None])
        penalties.append(
            Penalty(DependencyGroup(name, channels, (part,), (part,)), GroupLasso(1e-4))
        )
    for parameter in named.values():
        parameter.grad = torch.empty_like(parameter)
    optimizers: list[Optimizer] = [
        AdamW(named.values(), lr=1e-4, fused=True),
        RAMDA(named.items(), penalties, lr=1e-3),
    ]
    times: list[list[float]] = [[], []]
    for round_ in range(ROUNDS + WARM_UP):
        for parameter in named.values():
            if parameter.grad is not None:
                parameter.grad.normal_(generator=generator).mul_(1e-3)
        for which in (0, 1) if round_ % 2 else (1, 0):
            started = time.perf_counter()
            optimizers[which].step()
            if round_ >= WARM_UP:
                times[which].append(1e3 * (time.perf_counter() - started))
    adamw, ramda = (statistics.median(each) for each in times)
    row = {
        "params": sum(p.numel() for p in named.values()),
        "groups": sum(penalty.group.channels for penalty in penalties),
        "adamw_ms": adamw,
        "ramda_ms": ramda,
        "ratio": statistics.median(b / a for a, b in zip(*times, strict=True)),
    }
    print(row, flush=True)
    return row


def plot(rows: list[Row], kind: str, path: Path, where: Row) -> None:
    """Draw time per parameter over what is varied: a flat line is linear growth."""
    x = [row["params" if kind == "parameters" else "groups"] for row in rows]
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for name, key in (("RAMDA, group lasso", "ramda_ms"), ("AdamW(fused=True)", "adamw_ms")):
        nanoseconds = [1e6 * row[key] / row["params"] for row in rows]
        axes.plot(x, nanoseconds, marker="o", label=name)
    axes.set_xscale("log", base=2 if kind == "groups" else 10)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(kind)
    axes.set_ylabel("ns per parameter and step")
    axes.set_title(f"{where['device']}, {where['threads']} threads", fontsize=9)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
