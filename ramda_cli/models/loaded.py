"""What loading a model gives, whatever it was loaded from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from ramda_cli.tasks import IMAGE_CLASSIFICATION, Task
from ramda_cli.tasks.inputs import ExampleInputs


@dataclass(frozen=True)
class Masking:
    """What of an image is hidden from a model that is to paint it, as SimMIM does.

    Attributes:
        patch_size: side in pixels of the model's patches.
        square: side in pixels of the squares that are hidden, each a number of patches.
        ratio: share of the squares that are hidden, rounded up.
    """

    patch_size: int
    square: int = 32
    ratio: float = 0.6


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an input.

    Attributes:
        input_size: (channels, height, width) in pixels.
        mean, std: per channel, of values in [0, 1].
        interpolation: as timm names it.
        crop_pct: share of the resized image that the evaluation crop keeps.
        masking: what is hidden of it; None where the model sees everything.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    crop_pct: float = 1.0
    masking: Masking | None = None


@dataclass(frozen=True)
class TextPreprocessing:
    """How a text becomes an input.

    Attributes:
        max_length: most tokens of an input.
        inputs: names of the tensors that the model is given, in order.
    """

    max_length: int
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class SegmentPreprocessing:
    """How a text becomes the inputs of a model that reads it piece by piece.

    Attributes:
        segment_length: words of an input.
        memory_length: words before it of which the model is given what it kept.
    """

    segment_length: int
    memory_length: int


@dataclass(frozen=True)
class SpeechPreprocessing:
    """How a text and a recording become ids of characters and a log mel spectrogram.

    Attributes:
        characters: number i has the id i + 1; 0 is padding.
        n_mels: channels of the spectrogram.
        sampling_rate_hz: of the recording.
        n_fft: samples of the window.
        hop: samples from frame to frame.
        min_hz, max_hz: of the lowest and of the highest mel.
    """

    characters: str
    n_mels: int
    sampling_rate_hz: int = 22_050
    n_fft: int = 1024
    hop: int = 256
    min_hz: float = 0.0
    max_hz: float = 8000.0


AnyPreprocessing = Preprocessing | TextPreprocessing | SegmentPreprocessing | SpeechPreprocessing


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
        example_inputs: a batch of 2: positional images, or what a text model takes by keyword.
        source: how to build it again.
        preprocessing: what its inputs must look like.
        num_classes: outputs of its classifier; 0 of a model that tells no classes apart.
        notes: what loading changed, in sentences for the user.
        license: of the weights it starts from, as the hub abbreviates it, where it is known.
        task: what it is for.
        new_head: whether its head started from random weights.
        tokenizer: of transformers, for what reads texts.
        labels: names of its classes, where it has its own.
    """

    module: nn.Module
    example_inputs: ExampleInputs
    source: ModelSource
    preprocessing: AnyPreprocessing
    num_classes: int
    notes: tuple[str, ...] = ()
    license: str | None = None
    task: Task = IMAGE_CLASSIFICATION
    new_head: bool = False
    tokenizer: Any = None
    labels: tuple[str, ...] = ()
