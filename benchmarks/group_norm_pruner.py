"""Prune the model of a config with Torch-Pruning in place of RAMDA, for comparison.

    pip install torch-pruning==1.6.1
    python benchmarks/group_norm_pruner.py configs/cifar10/resnet20.yaml --speed-up 2.1

Torch-Pruning's own method ("group_sl" of DepGraph, Fang et al., CVPR 2023): sparse learning under
its group-norm regularizer, a global cut, fine-tuning, in `training.epochs` together. The weights,
data, augmentation, batch size, precision and seed are the config's. It cuts channel by channel, in
its own order, until the MACs as RAMDA counts them are at most the dense ones over the speed-up.
Channels that it would cut at the wrong place stay, and are named. Prints one JSON document; the
progress is on stderr.

The defaults did best in a short search on validation images (ResNet-20, 10,000 images, 6 epochs),
but for `--reg`: what it does grows with the steps, and the best there, 2e-2 over 156 steps, is
scaled to the 1,404 steps of 4 epochs of 45,000 images. Its authors' own, for 100 and 100 epochs,
are `--schedule step --sparse-lr 1e-2 --lr 1e-2 --reg 5e-4` and half of the epochs sparse.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR
from torch.utils.flop_counter import FlopCounterMode

from ramda_cli.config.loading import dump_config, load_config
from ramda_cli.config.schema import RunConfig
from ramda_cli.data.bundle import DataBundle
from ramda_cli.export import write_tensors
from ramda_cli.pipeline.devices import choose_device, device_name
from ramda_cli.pipeline.loading import load_run
from ramda_cli.structure import discover
from ramda_cli.structure.cost import CostModel, Size
from ramda_cli.training import evaluate
from ramda_cli.training.batch_norm import recompute_batch_norm_
from ramda_cli.training.objective import Objective

try:
    import torch_pruning as tp
except ImportError:
    sys.exit("error: Torch-Pruning is not installed\nhint: pip install torch-pruning==1.6.1")

STEPS = 400
"""Cuts between nothing and everything: fewer channels than one at a time where there are more."""

Inputs = tuple[Tensor, ...]
Result = dict[str, Any]


def main() -> None:
    """Sparse learning, cut, fine-tuning; print what came out."""
    options, config = _options()
    device = choose_device(config.training.device)
    loaded, data = load_run(config)
    model = loaded.module.to(device, memory_format=torch.channels_last)
    one: Inputs = tuple(images[:1].to(device) for images in loaded.example_inputs)
    training = _Training(model, data, config, options)

    started = time.monotonic()
    accuracies = {"dense": training.validate()}
    dense = _size(model, one)
    pruner, kept_back = _pruner(model, one, loaded.num_classes, options)
    pruner.update_regularizer()
    training.run("sparse", options.sparse_epochs, options.sparse_lr, pruner=pruner)
    accuracies["before_cut"] = training.validate()

    masked, own_macs = copy.deepcopy(model), _own_macs(model, one)
    kept = _cut(pruner, model, one, macs=int(dense.macs / options.speed_up))
    size = _size(model, one)
    difference = _difference(masked, model, kept, loaded.example_inputs)
    accuracies["after_cut"] = training.validate()

    fine_tuning = config.training.epochs - options.sparse_epochs
    training.run("fine-tune", fine_tuning, options.lr, weight_decay=options.weight_decay)
    accuracies["final_running_statistics"] = training.validate()
    recompute_batch_norm_(model, data.train, device=device)
    accuracies["final"] = training.validate()
    result = {
        "torch_pruning": version("torch-pruning"),
        "accuracy": accuracies,
        "macs": _share(dense.macs, size.macs),
        "params": _share(dense.params, size.params),
        "speed_up_by_torch_pruning": own_macs / _own_macs(model, one),
        "widths": {name: _outputs(layer) for name, layer in _layers(model).items()},
        "kept_back": kept_back,
        "difference_of_cut": difference,
        "seconds": round(time.monotonic() - started, 1),
        "device": device_name(device),
        "data": data.description,
        "settings": _settings(options, config),
    }
    if options.output is not None:
        _write(options.output, model, config, result)
    print(json.dumps(result))


def _options() -> tuple[argparse.Namespace, RunConfig]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("config", type=Path)
    add("--speed-up", type=float, default=2.1, help="dense MACs over those left (%(default)s)")
    add("--sparse-epochs", type=int, help="of the config's epochs (a third)")
    add("--optimizer", choices=("sgd", "adamw"), default="sgd", help="(%(default)s)")
    add("--schedule", choices=("step", "cosine"), default="cosine", help="(%(default)s)")
    add("--sparse-lr", type=float, default=2e-2, help="of the sparse learning (%(default)s)")
    add("--lr", type=float, default=2e-2, help="of the fine-tuning (%(default)s)")
    add("--weight-decay", type=float, default=5e-4, help="of the fine-tuning (%(default)s)")
    add("--reg", type=float, default=2e-3, help="strength of its regularizer (%(default)s)")
    add("--normalizer", choices=("max", "mean"), default="max", help="(%(default)s)")
    add("--max-pruning-ratio", type=float, default=1.0, help="of each layer (%(default)s)")
    add("--distill", type=float, metavar="WEIGHT", help="as training.distill of the config")
    add("-o", "--output", type=Path, help="new directory for weights and metrics")
    add("--set", action="append", default=[], dest="sets", metavar="KEY=VALUE", help="as in ramda")
    options = parser.parse_args()
    config = load_config(options.config, {"training.distill": options.distill}, options.sets)
    epochs = config.training.epochs
    if options.sparse_epochs is None:
        options.sparse_epochs = epochs // 3
    if not 0 <= options.sparse_epochs <= epochs:
        parser.error(f"--sparse-epochs must be in [0, {epochs}]")
    if options.speed_up <= 1:
        parser.error("--speed-up must be above 1")
    if options.output is not None:
        if options.output.exists():
            parser.error(f"{options.output} exists")
        options.output.mkdir(parents=True)
    return options, config


class _Training:
    """Epochs of one phase after another, each with its own optimizer and schedule."""

    def __init__(
        self, model: nn.Module, data: DataBundle, config: RunConfig, options: argparse.Namespace
    ) -> None:
        self._model, self._data, self._config, self._options = model, data, config, options
        self._device = next(model.parameters()).device
        self._objective = Objective(model, config.training)
        self._epoch = 0

    def validate(self) -> float:
        return evaluate(self._model, self._data.task, self._data.val, device=self._device)

    def run(
        self, phase: str, epochs: int, lr: float, *, weight_decay: float = 0.0, pruner: Any = None
    ) -> None:
        optimizer = self._optimizer(lr, weight_decay)
        schedule = self._schedule(optimizer, epochs * len(self._data.train))
        for _ in range(epochs):
            self._epoch += 1
            self._model.train()
            total = torch.zeros((), device=self._device)
            for images, labels in self._data.train:
                optimizer.zero_grad()
                total += self._backward(images, labels)
                if pruner is not None:
                    pruner.regularize(self._model)
                optimizer.step()
                schedule.step()
            loss = float(total) / len(self._data.train)
            self._log({"epoch": self._epoch, "phase": phase, "loss": loss})

    def _backward(self, images: Tensor, labels: Tensor) -> Tensor:
        bf16 = self._config.training.precision == "bf16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=bf16):
            loss = self._objective(self._model, images.to(self._device), labels.to(self._device))
        loss.backward()
        return loss.detach()

    def _optimizer(self, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        parameters = self._model.parameters()
        if self._options.optimizer == "adamw":
            return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=weight_decay)

    def _schedule(self, optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
        if self._options.schedule == "cosine":
            return CosineAnnealingLR(optimizer, max(1, steps))
        return MultiStepLR(optimizer, [round(0.6 * steps), round(0.8 * steps)], gamma=0.1)

    def _log(self, values: Result) -> None:
        values["metric"] = self.validate()
        epochs = self._config.training.epochs
        print(
            f"epoch {values['epoch']}/{epochs}  {values['phase']}  loss {values['loss']:.4f}"
            f"  accuracy {values['metric']:.4f}",
            file=sys.stderr,
            flush=True,
        )
        if self._options.output is not None:
            with (self._options.output / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(values) + "\n")


def _pruner(
    model: nn.Module, one: Inputs, classes: int, options: argparse.Namespace
) -> tuple[Any, list[str]]:
    """Return Torch-Pruning's pruner and the layers whose outputs it cannot cut."""
    heads = [module for module in _layers(model).values() if _outputs(module) == classes]
    misread = _misread(model, one)
    pruner = tp.pruner.GroupNormPruner(
        model,
        one,
        importance=tp.importance.GroupMagnitudeImportance(p=2, normalizer=options.normalizer),
        reg=options.reg,
        global_pruning=True,
        pruning_ratio=1.0,
        max_pruning_ratio=options.max_pruning_ratio,
        iterative_steps=STEPS,
        ignored_layers=[*heads, *misread],
    )
    kept_back = [name for name, module in _layers(model).items() if module in misread]
    if kept_back:
        print(f"kept back: {', '.join(kept_back)}", file=sys.stderr, flush=True)
    return pruner, kept_back


def _misread(model: nn.Module, one: Inputs) -> list[nn.Module]:
    """Return the layers of groups in which an index is beyond the width of a member.

    Torch-Pruning follows no channel through a padding or a slice, and takes both ends for equal.
    """
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=one)
    found: list[nn.Module] = []
    for group in graph.get_all_groups():
        members = [(dep.target.module, dep.handler, indices) for dep, indices in group]
        widths = [
            graph.get_out_channels(module)
            if graph.is_out_channel_pruning_fn(handler)
            else graph.get_in_channels(module)
            for module, handler, _ in members
        ]
        if any(
            width is not None and max(indices) >= width
            for width, (_, _, indices) in zip(widths, members, strict=True)
        ):
            found += [
                module
                for module, handler, _ in members
                if isinstance(module, nn.Conv2d | nn.Linear)
                and graph.is_out_channel_pruning_fn(handler)
            ]
    return found


def _cut(pruner: Any, model: nn.Module, one: Inputs, *, macs: int) -> dict[str, list[int]]:
    """Cut until at most so many MACs are left; return the inputs that each layer keeps."""
    names = {module: name for name, module in _layers(model).items()}
    kept = {name: list(range(_inputs(module))) for module, name in names.items()}
    consumers = (tp.prune_conv_in_channels, tp.prune_linear_in_channels)
    model.eval()
    while _macs(model, one) > macs:
        if pruner.current_step == STEPS:
            sys.exit(
                f"error: Torch-Pruning has cut all it can, and more than {macs:,} MACs are left"
            )
        for group in pruner.step(interactive=True):
            for dep, indices in group:
                if dep.handler in consumers:
                    name, gone = names[dep.target.module], set(indices)
                    kept[name] = [c for at, c in enumerate(kept[name]) if at not in gone]
            group.prune()
    return kept


def _difference(
    dense: nn.Module, cut: nn.Module, kept: dict[str, list[int]], inputs: Sequence[Tensor]
) -> float:
    """Return how far outputs are apart after masking in the dense model what the other has lost.

    The largest absolute difference, in float64. Both do the same if the cut is right.
    """
    masked, cut = (copy.deepcopy(model).cpu().double().eval() for model in (dense, cut))
    for name, module in _layers(masked).items():
        mask = torch.zeros(_inputs(module), dtype=torch.float64)
        mask[kept[name]] = 1
        module.weight.data.mul_(mask.view(1, -1, *[1] * (module.weight.dim() - 2)))
    images = [each.cpu().double() for each in inputs]
    with torch.no_grad():
        return float((masked(*images) - cut(*images)).abs().max())


def _size(model: nn.Module, one: Inputs) -> Size:
    """Return MACs and parameters as RAMDA counts them."""
    copied = copy.deepcopy(model).cpu().eval()
    return CostModel(discover(copied, tuple(images.cpu() for images in one))).size()


def _macs(model: nn.Module, one: Inputs) -> int:
    """Count as `_size` does, by running the model: 100 times as fast as discovery."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*one)
    return counter.get_total_flops() // 2


def _own_macs(model: nn.Module, one: Inputs) -> float:
    return tp.utils.count_ops_and_params(model, one)[0]


def _layers(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def _inputs(layer: nn.Conv2d | nn.Linear) -> int:
    return layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features


def _outputs(layer: nn.Conv2d | nn.Linear) -> int:
    return layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features


def _share(dense: int, left: int) -> Result:
    return {"dense": dense, "left": left, "share": left / dense}


def _settings(options: argparse.Namespace, config: RunConfig) -> Result:
    training = config.training.model_dump(include={"epochs", "distill", "precision", "seed"})
    paths = {"config": str(options.config), "output": options.output and str(options.output)}
    return {**vars(options), **training, **paths}


def _write(directory: Path, model: nn.Module, config: RunConfig, result: Result) -> None:
    write_tensors(model.state_dict(), directory / "weights.safetensors", metadata={"format": "pt"})
    (directory / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    (directory / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
