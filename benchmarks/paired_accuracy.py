"""Compare models of one architecture on the same validation images, image by image.

    python benchmarks/paired_accuracy.py configs/cifar10/resnet20-base.yaml \
        dense=out/dense.safetensors ramda=out/resnet20-2.1x torch-pruning=out/tp/weights.safetensors

A directory is a result of `ramda prune`; a file holds the state dict of the config's model, or of
one whose layers are narrower. Prints each accuracy, and the differences with their standard errors:
on the same images they are smaller than those of the accuracies.
"""

import argparse
import copy
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import ramda_cli
from ramda_cli.config.loading import load_config
from ramda_cli.data.bundle import Batches
from ramda_cli.pipeline.loading import load_run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("models", nargs="+", metavar="NAME=PATH")
    options = parser.parse_args()
    loaded, data = load_run(load_config(options.config, {}, ["model.weights=null"]))
    right: dict[str, Tensor] = {}
    for text in options.models:
        name, _, path = text.partition("=")
        model = _load(loaded.module, Path(path))
        right[name] = _right(model, data.val)
        print(f"{name}: {100 * float(right[name].mean()):.2f} %")
    names = list(right)
    for at, one in enumerate(names):
        for other in names[at + 1 :]:
            each = right[one] - right[other]
            error = 100 * float(each.std()) / len(each) ** 0.5
            print(f"{one} - {other}: {100 * float(each.mean()):+.2f} ± {error:.2f}")


def _load(dense: nn.Module, path: Path) -> nn.Module:
    if path.is_dir():
        return ramda_cli.load(path / "model.safetensors")
    model, state = copy.deepcopy(dense), load_file(path)
    for name, module in model.named_modules():
        _narrow_(name, module, state)
    model.load_state_dict(state)
    return model.eval()


def _narrow_(name: str, module: nn.Module, state: dict[str, Tensor]) -> None:
    """Give a layer's own tensors the sizes that they have in a state dict."""
    for key, old in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
        new = state.get(f"{name}.{key}")
        if new is not None and new.shape != old.shape:
            is_parameter = isinstance(old, nn.Parameter)
            setattr(module, key, nn.Parameter(new.clone()) if is_parameter else new.clone())


@torch.no_grad()
def _right(model: nn.Module, val: Batches) -> Tensor:
    """Return for each image whether the model is right, as 0 or 1."""
    return torch.cat([(model(images).argmax(1) == labels) for images, labels in val]).double()


if __name__ == "__main__":
    main()
