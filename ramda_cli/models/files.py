"""Models from a factory in a Python file, `path/to/file.py:factory`.

The factory takes no arguments and returns an `nn.Module` that maps N x C x H x W images to
N x K logits. What its images look like may be said in the file, as a module variable for all
factories or as an attribute of one, which wins:

    PREPROCESSING = dict(input_size=(3, 32, 32), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    resnet20.preprocessing = dict(input_size=(1, 28, 28), mean=(0.13,), std=(0.31,))

Without it: 3 x 224 x 224 with the mean and deviation of ImageNet. The file imports installed
packages only: its directory is not put on the import path.
"""

import difflib
import hashlib
import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from ramda_cli.config.schema import ModelConfig
from ramda_cli.errors import ModelError, first_line
from ramda_cli.models.loaded import LoadedModel, ModelSource, Preprocessing
from ramda_cli.models.randomness import example_images, seeded
from ramda_cli.models.weights import load_weights_

_FILE_AND_FACTORY = re.compile(r"(?P<path>.+\.py)(:(?P<factory>\w*))?")


def is_file_model(name: str) -> bool:
    """Tell `path/to/file.py:factory` from other names."""
    return _FILE_AND_FACTORY.fullmatch(name) is not None


def load_file_model(config: ModelConfig, *, image_size: int | None, seed: int) -> LoadedModel:
    """Run the file, call the factory and load the weights, if any.

    Raises:
        ModelError: the file, the factory, its module or the weights are not usable.
    """
    factory, preprocessing = load_factory(config.name)
    if image_size is not None:
        channels = preprocessing.input_size[0]
        preprocessing = replace(preprocessing, input_size=(channels, image_size, image_size))
    with seeded(seed):
        module = call_factory(factory, config.name)
    origin = "the factory's own"
    if config.weights is not None:
        load_weights_(module, config.weights, model=config.name)
        origin = str(config.weights)
    module = module.float().eval()
    example = example_images(preprocessing.input_size)
    return LoadedModel(
        module=module,
        example_inputs=(example,),
        source=ModelSource("file", config.name, weights=origin),
        preprocessing=preprocessing,
        num_classes=_count_classes(module, example, config.name),
        notes=(f"loading {config.name} ran the Python code of that file",),
    )


def load_factory(name: str) -> tuple[Callable[[], nn.Module], Preprocessing]:
    """Run `path/to/file.py` and return the named factory and what its images look like.

    Raises:
        ModelError: the file or the factory is missing, or the file cannot be run.
    """
    match = _FILE_AND_FACTORY.fullmatch(name)
    if match is None:
        raise ValueError(f"name must be path/to/file.py:factory, got {name!r}")
    path, factory_name = Path(match["path"]), match["factory"] or ""
    if not path.is_file():
        raise ModelError(f"no model file {path}", hint="give it as path/to/file.py:factory")
    module = _run(path)
    factory = getattr(module, factory_name, None) if factory_name else None
    if not callable(factory):
        raise _no_factory(path, factory_name, module)
    given = getattr(factory, "preprocessing", getattr(module, "PREPROCESSING", None))
    return factory, _preprocessing(given, path)


def _run(path: Path) -> ModuleType:
    """Run the file as a module under a name of its own; a failed one leaves no module behind."""
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"ramda_model_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path} cannot be run as Python", hint="check the file name")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses in the file look their module up here
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything; the cause is kept
        del sys.modules[name]
        raise ModelError(
            f"{path} cannot be run: {_summary(error)}",
            hint=f"`python {path}` shows where; RAMDA_DEBUG=1 shows the traceback",
        ) from error
    return module


def call_factory(factory: Callable[[], nn.Module], name: str) -> nn.Module:
    """Call what `load_factory` returned for this name.

    Raises:
        ModelError: it fails, or returns something else than a module.
    """
    try:
        module = factory()
    except Exception as error:  # as above
        raise ModelError(
            f"{name} failed: {_summary(error)}",
            hint="the factory is called without arguments; RAMDA_DEBUG=1 shows the traceback",
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"{name} returned {type(module).__name__}, not a torch.nn.Module",
            hint="return the model itself",
        )
    return module


@torch.no_grad()
def _count_classes(module: nn.Module, example: torch.Tensor, name: str) -> int:
    shape = tuple(example.shape[1:])
    try:
        logits = module(example)
    except Exception as error:  # as above
        raise ModelError(
            f"{name} does not take images of shape {shape}: {_summary(error)}",
            hint="say what it takes in the file: PREPROCESSING = dict(input_size=(C, H, W), ...)",
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(example):
        raise ModelError(
            f"{name} does not return logits of shape (batch, classes)",
            hint="only image classifiers are supported",
        )
    return logits.shape[1]


def _preprocessing(given: object, path: Path) -> Preprocessing:
    defaults = {
        "input_size": (3, 224, 224),
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
    }
    wrong = ModelError(
        f"PREPROCESSING in {path} is not valid",
        hint="write dict(input_size=(C, H, W), mean=(...), std=(...)), one mean per channel",
    )
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise wrong
    try:
        result = Preprocessing(**{**defaults, **given})
    except TypeError as error:
        raise wrong from error
    channels = result.input_size[0] if len(result.input_size) == 3 else 0
    if not len(result.mean) == len(result.std) == channels:
        raise wrong
    return result


def _no_factory(path: Path, name: str, module: ModuleType) -> ModelError:
    own = [
        key
        for key, value in vars(module).items()
        if callable(value)
        and not key.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
    ]
    close = difflib.get_close_matches(name, own, n=3) or own
    what = f"{path} has no function {name!r}" if name else f"{path} needs a factory"
    hint = f"it has {', '.join(close)}" if close else "it has no functions at all"
    return ModelError(what, hint=f"give {path}:FACTORY; {hint}")


def _summary(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
