"""Fine-tune the dense model of a config as long as `ramda prune` would, for comparison.

    python benchmarks/dense.py configs/cifar10/resnet20.yaml --lr 3e-3

AdamW with cosine decay for the epochs, data, augmentation, mixing, batch size and precision of the
config, learning from the labels alone. Prints one JSON document; `-o FILE.safetensors` keeps the
weights, for `--weights`. Pruned baselines are in the package: `ramda prune --method`.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from torch import nn

from ramda_cli.config.loading import load_config
from ramda_cli.config.schema import RunConfig
from ramda_cli.data.bundle import DataBundle
from ramda_cli.export import write_tensors
from ramda_cli.pipeline.devices import choose_device
from ramda_cli.pipeline.loading import load_run
from ramda_cli.tasks.inputs import moved
from ramda_cli.training import evaluate
from ramda_cli.training.batch_norm import recompute_batch_norm_
from ramda_cli.training.mixing import Mixing
from ramda_cli.training.objective import Objective


def main() -> None:
    """Fine-tune and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    options = parser.parse_args()
    config = load_config(options.config, {}, options.sets)
    device = choose_device(config.training.device)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
    loaded, data = load_run(config)
    model = loaded.module.to(device, memory_format=torch.channels_last)

    started = time.monotonic()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=options.lr, weight_decay=options.weight_decay
    )
    _fine_tune(model, data, config, optimizer)
    recompute_batch_norm_(model, data.train, device=device)
    seconds = time.monotonic() - started
    result = {
        "lr": options.lr,
        "weight_decay": options.weight_decay,
        "epochs": config.training.epochs,
        "seed": config.training.seed,
        "metric": data.task.metric.name,
        "value": evaluate(model, data.task, data.val, device=device),
        "seconds": round(seconds, 1),
    }
    if options.output is not None:
        write_tensors(model.state_dict(), options.output, metadata={"format": "pt"})
    print(json.dumps(result))


def _fine_tune(
    model: nn.Module, data: DataBundle, config: RunConfig, optimizer: torch.optim.Optimizer
) -> None:
    steps = config.training.epochs * len(data.train)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    device = next(model.parameters()).device
    bf16 = config.training.precision == "bf16"
    mixing = Mixing(config.training, classes=len(data.class_names))
    labels_alone = config.training.model_copy(update={"distill": 0.0})
    objective = Objective(model, labels_alone, data.task)
    for epoch in range(1, config.training.epochs + 1):
        model.train()
        total = torch.zeros((), device=device)
        for number, (inputs, targets) in enumerate(data.train):
            batch = moved(inputs, device), targets.to(device)
            mixed = mixing(*batch, epoch=epoch, batch=number)
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = objective(model, *mixed)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
        mean = float(total) / len(data.train)
        print(f"epoch {epoch} of {config.training.epochs}: loss {mean:.4f}", file=sys.stderr)


if __name__ == "__main__":
    main()
