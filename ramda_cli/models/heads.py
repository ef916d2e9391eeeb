"""Replacing a classifier's head when the data has another number of classes."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from ramda_cli.errors import ModelError
from ramda_cli.models.huggingface import describe_huggingface, is_nameless, with_classes
from ramda_cli.models.loaded import LoadedModel
from ramda_cli.models.randomness import seeded
from ramda_cli.tasks.inputs import ExampleInputs, split_inputs


def adapt_labels(
    loaded: LoadedModel, labels: Sequence[str], *, seed: int = 0, by_position: bool = False
) -> LoadedModel:
    """Return a transformers model that tells these classes apart, and knows their names.

    `loaded` itself when it does already. Its head is new where it has another number of outputs,
    and where its classes have other names, unless they have none of their own.

    Args:
        loaded: the model.
        labels: names of classes, in order; without any it predicts a number.
        seed: of a new head.
        by_position: whether as many classes are the same ones, whatever their names.
    """
    outputs = max(1, len(labels))
    if tuple(labels) == loaded.labels:
        return loaded
    named = bool(loaded.labels) and not by_position and not is_nameless(loaded.labels)
    new = outputs != loaded.num_classes or (named and not loaded.new_head)
    with seeded(seed):
        module = with_classes(loaded.module, labels)
    described = describe_huggingface(module)
    if described is None:
        raise ValueError("labels are a matter of transformers models")
    note = (
        f"a new head with {outputs} output{'s' if outputs > 1 else ''} starts from random weights"
    )
    return replace(
        loaded,
        module=module.eval(),
        source=replace(loaded.source, arguments=described[1]),
        num_classes=len(labels),
        notes=(*loaded.notes, note) if new and not loaded.new_head else loaded.notes,
        new_head=loaded.new_head or new,
        labels=tuple(labels),
    )


def adapt_head(loaded: LoadedModel, num_classes: int, *, seed: int = 0) -> LoadedModel:
    """Return a model with `num_classes` outputs; `loaded` itself when it has them already.

    timm models reset their own classifier. Elsewhere the head is the linear layer or 1 x 1
    convolution whose output *is* the model's output, value by value.

    Raises:
        ModelError: no such layer exists.
    """
    if num_classes == loaded.num_classes:
        return loaded
    module = copy.deepcopy(loaded.module)
    arguments = {**loaded.source.arguments, "num_classes": num_classes}
    with seeded(seed):
        if loaded.source.kind == "timm":
            cast(Any, module).reset_classifier(num_classes)
        else:
            head = find_head(module, loaded.example_inputs)
            replace_head_(module, head, num_classes)
            if loaded.source.kind == "file":
                arguments["head"] = head
    note = (
        f"the head of {loaded.source.name} had {loaded.num_classes} outputs and the data has "
        f"{num_classes} classes: a new head starts from random weights"
    )
    return replace(
        loaded,
        module=module.eval(),
        source=replace(loaded.source, arguments=arguments),
        num_classes=num_classes,
        notes=(*loaded.notes, note),
        new_head=True,
    )


@torch.no_grad()
def find_head(module: nn.Module, example_inputs: ExampleInputs) -> str:
    """Return the name of the layer that computes the logits.

    Raises:
        ModelError: the output is not the output of one linear layer or 1 x 1 convolution.
    """
    outputs: dict[str, Tensor] = {}

    def record(name: str) -> torch.utils.hooks.RemovableHandle:
        layer = module.get_submodule(name)
        return layer.register_forward_hook(lambda _, __, out: outputs.update({name: out}))

    handles = [record(name) for name, layer in module.named_modules() if _is_head(layer)]
    try:
        args, kwargs = split_inputs(example_inputs)
        logits = module(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    for name, output in outputs.items():
        if torch.equal(output.flatten(1), logits.flatten(1)):
            return name
    raise ModelError(
        "the model's head cannot be found: its output is not that of a linear layer or 1 x 1 "
        "convolution",
        hint="give the factory as many outputs as the data has classes",
    )


def replace_head_(module: nn.Module, name: str, num_classes: int) -> None:
    """Put a new layer with `num_classes` outputs in the place of the layer called `name`."""
    old = module.get_submodule(name)
    bias = getattr(old, "bias", None) is not None
    new: nn.Module
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, num_classes, bias=bias)
    elif isinstance(old, nn.Conv2d):
        new = nn.Conv2d(old.in_channels, num_classes, 1, bias=bias)
    else:
        raise ValueError(f"{name} must be a Linear or Conv2d, got {type(old).__name__}")
    module.set_submodule(name, new)


def _is_head(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == (1, 1) and layer.groups == 1
    return isinstance(layer, nn.Linear)
