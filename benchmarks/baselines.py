"""What a run of `ramda prune` is compared with: dense fine-tuning, and one-shot L2 pruning.

    python benchmarks/baselines.py configs/cifar10/resnet20.yaml --method dense --lr 1e-3
    python benchmarks/baselines.py configs/cifar10/resnet20.yaml --method l2 --lr 1e-3

Both fine-tune with AdamW and cosine decay for the epochs, data, augmentation, batch size and
precision of the config. `l2` first zeroes the channels of least L2 norm, through the same
dependency groups and the same budget as RAMDA, until the target is met; they stay zero, which
trains the same function as the removed model. Prints one JSON document.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ramda_cli.config.loading import load_config
from ramda_cli.config.schema import RunConfig
from ramda_cli.data.build import build_data
from ramda_cli.data.bundle import Batches
from ramda_cli.models.heads import adapt_head
from ramda_cli.models.loading import load_model
from ramda_cli.pipeline.devices import choose_device
from ramda_cli.structure import Structure, discover, identify, zero_
from ramda_cli.structure.cost import CostModel
from ramda_cli.structure.support import named_tensors
from ramda_cli.surgery import remove
from ramda_cli.training import accuracy, plan_budget
from ramda_cli.training.batch_norm import recompute_batch_norm_
from ramda_cli.verification import verify


def main() -> None:
    """Run one baseline."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--method", choices=("dense", "l2"), required=True)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    options = parser.parse_args()
    config = load_config(options.config, {}, options.sets)
    device = choose_device(config.training.device)
    torch.manual_seed(config.training.seed)
    loaded = load_model(config.model, image_size=config.data.image_size, seed=config.training.seed)
    data = build_data(config.data, loaded.preprocessing, seed=config.training.seed)
    loaded = adapt_head(loaded, len(data.class_names), seed=config.training.seed)
    structure = discover(
        loaded.module,
        loaded.example_inputs,
        keep=config.structure.keep,
        residual=config.structure.residual,
    )
    cost = CostModel(structure)
    model = loaded.module.to(device, memory_format=torch.channels_last)

    removed = _least_l2(config, model, structure, cost) if options.method == "l2" else {}
    zero_(model, structure, removed)
    at_cut = accuracy(model, data.val, device=device)
    started = time.monotonic()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=options.lr, weight_decay=options.weight_decay
    )
    _fine_tune(model, structure, removed, data.train, config, optimizer)
    recompute_batch_norm_(model, data.train, device=device)
    seconds = time.monotonic() - started

    result = {
        "method": options.method,
        "lr": options.lr,
        "weight_decay": options.weight_decay,
        "epochs": config.training.epochs,
        "seed": config.training.seed,
        "macs_share": cost.macs(cost.kept(removed)) / cost.macs(cost.channels),
        "params_share": cost.size(cost.kept(removed)).params / cost.size().params,
        "accuracy_at_the_cut": at_cut,
        "accuracy": accuracy(model, data.val, device=device),
        "seconds": round(seconds, 1),
    }
    if removed:
        model = model.cpu().eval()
        support = identify(model, structure)
        smaller, _ = remove(model, structure, support)
        batch = next(iter(data.val))[0][:16]
        result["proof_passed"] = verify(model, smaller.eval(), batch).passed
        result["accuracy_removed"] = accuracy(smaller, data.val, device=torch.device("cpu"))
    print(json.dumps(result))


def _least_l2(
    config: RunConfig, model: nn.Module, structure: Structure, cost: CostModel
) -> dict[str, list[int]]:
    """Return the channels of least L2 norm per entry, until the target is met."""
    if config.target is None:
        raise SystemExit("the config needs a target")
    tensors = named_tensors(model)
    scores = []
    for group in structure.groups:
        total = torch.zeros(group.channels, dtype=torch.float64)
        entries = 0
        for part in group.penalized:
            rows = tensors[part.parameter].detach().double().movedim(part.dim, 0)
            squares = rows[torch.from_numpy(part.indices)].square().flatten(1)
            total += squares.sum(dim=1)
            entries += squares.shape[1]
        scores.append((total / entries).sqrt().numpy())
    budget = plan_budget(cost, config.target, floor=config.structure.floor)
    zero = budget.choose(np.concatenate(scores), budget.counts, exact=True)
    pieces = np.split(zero, np.cumsum(cost.channels.astype(int))[:-1])
    return {
        group.name: np.flatnonzero(piece).tolist()
        for group, piece in zip(structure.groups, pieces, strict=True)
        if piece.any()
    }


def _fine_tune(
    model: nn.Module,
    structure: Structure,
    removed: dict[str, list[int]],
    batches: Batches,
    config: RunConfig,
    optimizer: torch.optim.Optimizer,
) -> None:
    steps = config.training.epochs * len(batches)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    device = next(model.parameters()).device
    bf16 = config.training.precision == "bf16"
    for _ in range(config.training.epochs):
        model.train()
        for images, labels in batches:
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = model(images.to(device))
            loss = F.cross_entropy(
                logits.float(), labels.to(device), label_smoothing=config.training.label_smoothing
            )
            loss.backward()
            optimizer.step()
            schedule.step()
            zero_(model, structure, removed)


if __name__ == "__main__":
    main()
