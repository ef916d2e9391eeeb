"""A finished checkpoint of another tool: a state dict whose model is named, or a directory."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ramda_cli.config.schema import ModelConfig
from ramda_cli.errors import ModelError, first_line
from ramda_cli.models.huggingface import ATTENTION, describe_huggingface, load_huggingface
from ramda_cli.models.loaded import LoadedModel, ModelSource, Preprocessing
from ramda_cli.models.loading import load_model
from ramda_cli.models.masks import masked_names
from ramda_cli.models.model_config import read_json
from ramda_cli.models.randomness import seeded
from ramda_cli.models.weights import tensor_names

_PROBES = 4
_MOST_TOKENS = 16
_IMAGE_SIZE = 224
_MOST_ELEMENTS = 2**25
"""Of a batch of images, whose size an untrusted configuration says."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model as another tool left it.

    Attributes:
        module: in eval mode, on the CPU, float32, masks applied.
        file: where its tensors are.
        probes: random batches of 2, of positional inputs.
        source: how to build the dense architecture again.
        labels: a name for every class; empty when it is no classifier.
        preprocessing: what its images must look like; None when that is not known.
        notes: what loading changed, in sentences for the user.
    """

    module: nn.Module
    file: Path
    probes: tuple[tuple[Tensor, ...], ...]
    source: ModelSource
    labels: tuple[str, ...]
    preprocessing: Preprocessing | None
    notes: tuple[str, ...]


def load_checkpoint(
    path: Path, *, model: str | None = None, image_size: int | None = None
) -> Checkpoint:
    """Load a checkpoint strictly: every tensor, every shape.

    | path | is |
    |---|---|
    | a `.safetensors` file | the state dict of `model`, which is named as for `load_model` |
    | a directory, `config.json` of timm | a timm model |
    | a directory, `config.json` of transformers | the class that its `architectures` name |

    A pickle is never opened, and no code that comes with a checkpoint is run.

    Raises:
        ModelError: the model is not known or the tensors do not fit it.
    """
    file = path / "model.safetensors" if path.is_dir() else path
    # Before the model: what is wrong with the file is what the user should hear of.
    masks = _masks_note(file)
    if model is None and path.is_dir():
        described = _read_config(path)
        if "architectures" in described:
            return _huggingface(described, file, masks, image_size)
    elif model is None:
        raise ModelError(
            f"{path} does not say which model its tensors are of",
            hint="name it: --model resnet50, or --model path/to/file.py:factory",
        )
    config = ModelConfig(name=model or f"local-dir:{path}", weights=file)
    return _of_images(load_model(config, image_size=image_size), file, masks)


def _of_images(loaded: LoadedModel, file: Path, masks: tuple[str, ...]) -> Checkpoint:
    if not isinstance(loaded.preprocessing, Preprocessing):
        raise ModelError(
            f"{loaded.source.name} reads texts", hint="give its directory in place of the file"
        )
    if loaded.preprocessing.masking is not None:
        raise ModelError(
            f"{loaded.source.name} paints what is hidden of images",
            hint="give its directory in place of the file",
        )
    shape = loaded.preprocessing.input_size
    generator = torch.Generator().manual_seed(0)
    return Checkpoint(
        module=loaded.module,
        file=file,
        probes=tuple((torch.randn(2, *shape, generator=generator),) for _ in range(_PROBES)),
        source=loaded.source,
        labels=tuple(str(number) for number in range(loaded.num_classes)),
        preprocessing=loaded.preprocessing,
        notes=(*loaded.notes, *masks),
    )


def _huggingface(
    config: Mapping[str, Any], file: Path, masks: tuple[str, ...], image_size: int | None
) -> Checkpoint:
    names = config["architectures"]
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise ModelError(
            f"{file.with_name('config.json')} names no architecture",
            hint='it should have "architectures": ["BertForSequenceClassification"], for one',
        )
    # How attention is computed is not what; a cache among the outputs would have to keep its shape.
    settings = {key: value for key, value in config.items() if key not in ATTENTION}
    settings["use_cache"] = False
    try:
        with seeded(0):
            module = load_huggingface(names[0], settings, file).float().eval()
        probes = _probes(module, names[0], image_size)
        labels = _labels(module, probes[0])
    except (ArithmeticError, AttributeError, ImportError, LookupError, RuntimeError, TypeError,
            ValueError) as error:  # fmt: skip
        problem = first_line(error)
        raise ModelError(
            f"{names[0]} cannot be built from {file.with_name('config.json')}: {problem}",
            hint="install the transformers version that wrote it",
        ) from error
    described = describe_huggingface(module)
    if described is None:
        raise ModelError(f"{names[0]} is not a class of transformers", hint="name one that is")
    return Checkpoint(
        module=module,
        file=file,
        probes=probes,
        source=ModelSource("huggingface", *described, weights=str(file)),
        labels=labels,
        preprocessing=None,
        notes=masks,
    )


def _probes(module: nn.Module, name: str, image_size: int | None) -> tuple[tuple[Tensor, ...], ...]:
    """Return random batches of a model's one input, token ids or images."""
    first = next(iter(inspect.signature(module.forward).parameters), None)
    config: Any = module.config
    generator = torch.Generator().manual_seed(0)
    if first == "input_ids" and not config.is_encoder_decoder:
        length = min(_MOST_TOKENS, getattr(config, "max_position_embeddings", _MOST_TOKENS) // 2)
        shape = (2, max(1, length))
        return tuple(
            (torch.randint(config.vocab_size, shape, generator=generator),) for _ in range(_PROBES)
        )
    if first == "pixel_values":
        side = image_size or getattr(config, "image_size", _IMAGE_SIZE)
        sides = tuple(side) if isinstance(side, (list, tuple)) else (side, side)
        shape = (2, getattr(config, "num_channels", 3), *sides)
        sizes = all(type(size) is int and size > 0 for size in shape)
        if not sizes or math.prod(shape) > _MOST_ELEMENTS:
            raise ModelError(
                f"{name} takes images of size {' x '.join(map(str, shape[1:]))}",
                hint="give another with --image-size",
            )
        return tuple((torch.randn(shape, generator=generator),) for _ in range(_PROBES))
    raise ModelError(
        f"{name} takes more than token ids or images",
        hint="remove its channels in Python: ramda_cli.surgery.fold_constants_, then remove",
    )


@torch.no_grad()
def _labels(module: nn.Module, probe: tuple[Tensor, ...]) -> tuple[str, ...]:
    """Return the class names, if the model gives one row of logits per example."""
    logits = getattr(module(*probe), "logits", None)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        return ()
    named: Mapping[Any, Any] = getattr(module.config, "id2label", None) or {}
    return tuple(str(named.get(number, number)) for number in range(logits.shape[1]))


def _masks_note(file: Path) -> tuple[str, ...]:
    masked = masked_names(tensor_names(file))
    if not masked:
        return ()
    return (f"{len(masked)} tensors were multiplied by the masks of torch.nn.utils.prune",)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(
            f"no config.json in {folder}",
            hint="give the file of a state dict, and name its model with --model",
        )
    return read_json(path)
