"""What loading a model gives, whatever it was loaded from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an input.

    Attributes:
        input_size: (channels, height, width) in pixels.
        mean, std: per channel, of values in [0, 1].
        interpolation: as timm names it.
        crop_pct: share of the resized image that the evaluation crop keeps.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    crop_pct: float = 1.0


@dataclass(frozen=True)
class ModelSource:
    """How the dense architecture can be built again.

    Attributes:
        kind: `timm` builds `timm.create_model(name, **arguments)`; `huggingface` builds the
            transformers class `name` from the configuration `arguments`; `file` calls a factory
            in a Python file; `package` builds a model that ships with RAMDA.
        name: as the user gave it, resolved.
        arguments: JSON-able constructor arguments.
        weights: where the starting weights came from, for the report.
    """

    kind: Literal["timm", "huggingface", "file", "package"]
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "random initialization"


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model that is ready to be inspected or trained.

    Attributes:
        module: in eval mode, on the CPU, float32.
        example_inputs: positional inputs, a batch of 2.
        source: how to build it again.
        preprocessing: what its images must look like.
        num_classes: outputs of its classifier.
        notes: what loading changed, in sentences for the user.
        license: of the weights it starts from, as the hub abbreviates it, where it is known.
    """

    module: nn.Module
    example_inputs: tuple[Tensor, ...]
    source: ModelSource
    preprocessing: Preprocessing
    num_classes: int
    notes: tuple[str, ...] = ()
    license: str | None = None
