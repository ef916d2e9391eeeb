"""Models of transformers, from a directory or the hub: class, weights, tokenizer, inputs.

Weights come from safetensors only, and no code that comes with a model is run.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ramda_cli.config.schema import ModelConfig
from ramda_cli.errors import MODEL_FAILURES, ModelError, first_line
from ramda_cli.models.huggingface import (
    ATTENTION,
    build_huggingface,
    describe_huggingface,
    fill_huggingface,
    set_generation_,
)
from ramda_cli.models.loaded import (
    LoadedModel,
    Masking,
    ModelSource,
    Preprocessing,
    TextPreprocessing,
)
from ramda_cli.models.masks import apply_masks
from ramda_cli.models.model_config import Place, read_json
from ramda_cli.models.randomness import example_images, example_masked_images, seeded
from ramda_cli.models.transformers_tasks import choose_class
from ramda_cli.models.transformers_weights import pretrained_tensors
from ramda_cli.models.weights import read_weights
from ramda_cli.tasks import (
    EMBEDDING,
    FILL_MASK,
    GENERATIVE,
    IGNORED,
    IMAGE_CLASSIFICATION,
    MASKED_IMAGE_MODELING,
    TEXT2TEXT_GENERATION,
    TEXT_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
    Task,
)

_LENGTH = 128
_BLOCK = 256
_IMAGE_SIZE = 224
_WITH_CLASSES = (IMAGE_CLASSIFICATION, TEXT_CLASSIFICATION, TOKEN_CLASSIFICATION)
_INPUTS = ("input_ids", "token_type_ids", "attention_mask", "decoder_input_ids")
# How attention is computed is not what; code that comes with a model is not run.
_LEFT_OUT = (*ATTENTION, "auto_map", "custom_pipelines")


def load_transformers(
    place: Place,
    config: Mapping[str, Any],
    settings: ModelConfig,
    *,
    image_size: int | None = None,
    max_length: int | None = None,
    seed: int = 0,
) -> LoadedModel:
    """Build the class that does the task, and load weights and tokenizer.

    Tensors of a head that the files lack start from random weights, with a note; anything else
    must be there.

    Args:
        place: where the files are.
        config: the model's `config.json`.
        settings: the choice of task and weights.
        image_size: side in pixels, of a vision model; its own when not given.
        max_length: most tokens of a text.
        seed: of what starts from random weights.

    Raises:
        ModelError: the model cannot be built, or its files do not fit.
    """
    name, task = choose_class(config, settings.task, place.given)
    if "quantization_config" in config:
        raise ModelError(
            f"the weights of {place.origin} are quantised",
            hint="give the model in full precision",
        )
    plain = {key: value for key, value in config.items() if key not in _LEFT_OUT}
    plain |= settings.arguments
    fills = settings.pretrained or settings.weights is not None
    try:
        # What weights are loaded into is built by transformers again.
        with seeded(seed), torch.device("meta") if fills else nullcontext():
            module = build_huggingface(name, plain)
    except MODEL_FAILURES as error:
        raise ModelError(
            f"{name} cannot be built from the configuration of {place.origin}: {first_line(error)}",
            hint="install the transformers version that wrote it",
        ) from error
    _require_known(module, settings.arguments)
    module, new, origin = _weighted(module, name, place, settings, seed)
    # What only a head reads is not a task's own where the states are what it reads.
    new = [] if task is EMBEDDING else new
    notes = (f"{', '.join(new)} of {place.given} started from random weights",) if new else ()
    generation = place.extra("generation_config.json")
    if generation is not None:
        set_generation_(module, read_json(generation))
    tokenizer = None
    preprocessing: Preprocessing | TextPreprocessing
    if _is_of_images(module):
        preprocessing = _image_preprocessing(module, place, image_size)
        inputs: Any = (example_images(preprocessing.input_size),)
        if task is MASKED_IMAGE_MODELING:
            masking = _masking(module, preprocessing)
            preprocessing = replace(preprocessing, masking=masking)
            inputs = example_masked_images(preprocessing, masking)
    else:
        tokenizer = load_tokenizer(place, module)
        preprocessing = TextPreprocessing(
            _max_length(module, task, max_length), input_names(module, tokenizer, task)
        )
        inputs = example_texts(module, preprocessing)
    described = describe_huggingface(module)
    if described is None:
        raise ModelError(f"{name} is not a class of transformers", hint="name one that is")
    if tokenizer is not None and task is FILL_MASK and tokenizer.mask_token_id is None:
        raise ModelError(
            f"the tokenizer of {place.origin} has no token for a mask",
            hint="set tokenizer.mask_token and save it again, or choose another --task",
        )
    labels = getattr(module.config, "id2label", None) if task in _WITH_CLASSES else None
    return LoadedModel(
        module=module.float().eval(),
        example_inputs=inputs,
        source=ModelSource("huggingface", *described, weights=origin),
        preprocessing=preprocessing,
        num_classes=len(labels) if labels else 0,
        notes=notes,
        task=task,
        new_head=bool(new),
        tokenizer=tokenizer,
        labels=tuple(str(labels[number]) for number in sorted(labels)) if labels else (),
    )


def _require_known(module: nn.Module, arguments: Mapping[str, Any]) -> None:
    """Refuse a setting that the configuration's class does not have; it takes any in silence."""
    model: Any = module
    known = type(model.config)().to_dict() if arguments else {}
    unknown = next((key for key in arguments if key not in known), None)
    if unknown is not None:
        close = difflib.get_close_matches(unknown, known, n=3)
        raise ModelError(
            f"{type(model.config).__name__} has no setting {unknown!r}",
            hint=f"did you mean {', '.join(close)}?" if close else "see the model's config.json",
        )


def _weighted(
    module: nn.Module, name: str, place: Place, settings: ModelConfig, seed: int
) -> tuple[nn.Module, list[str], str]:
    """Return the model with its weights, the tensors that these lack, and where they are from."""
    if settings.weights is not None:
        state, origin = apply_masks(read_weights(settings.weights)), str(settings.weights)
    elif settings.pretrained:
        state, origin = pretrained_tensors(place)
    else:
        return module, [], "random initialization"
    with seeded(seed):
        module, missing = fill_huggingface(module, state, origin)
    return module, missing, origin


def load_tokenizer(place: Place, module: nn.Module) -> Any:
    """Load the fast tokenizer of a model; a missing token for padding is that of the end.

    Raises:
        ModelError: there is none, or it has more tokens than the model.
    """
    from transformers import AutoTokenizer

    known = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "spiece.model")
    if not any(map(place.extra, known)):
        raise ModelError(
            f"{place.origin} has no tokenizer",
            hint="put the tokenizer's files beside the model: tokenizer.save_pretrained(DIR)",
        )
    source = str(place.folder) if place.folder is not None else place.repository
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source, revision=place.revision, trust_remote_code=False
        )
    # tokenizers raises plain exceptions for files that a newer version wrote.
    except Exception as error:
        raise ModelError(
            f"the tokenizer of {place.origin} cannot be loaded: {first_line(error)}",
            hint="write it again with tokenizer.save_pretrained(DIR)",
        ) from error
    config: Any = module.config
    words = len(tokenizer)
    if words > config.vocab_size:
        raise ModelError(
            f"the tokenizer of {place.origin} has {words:,} tokens, the model"
            f" {config.vocab_size:,}",
            hint="give the tokenizer that the model was trained with",
        )
    if tokenizer.pad_token_id is None:
        own: Any = getattr(config, "pad_token_id", None)
        has_own = isinstance(own, int) and 0 <= own < words
        named = tokenizer.convert_ids_to_tokens(own) if has_own else tokenizer.eos_token
        tokenizer.pad_token = named
    if tokenizer.pad_token_id is None:
        raise ModelError(
            f"the tokenizer of {place.origin} has neither a token for padding nor for the end",
            hint="set tokenizer.pad_token and save it again",
        )
    # A classifier of a decoder looks for it, to find the last token of a text.
    config.pad_token_id = tokenizer.pad_token_id
    return tokenizer


def input_names(module: nn.Module, tokenizer: Any, task: Task) -> tuple[str, ...]:
    """Return the tensors that a text model is given: what its tokenizer makes and it takes.

    Raises:
        ModelError: it takes others for its task.
    """
    config: Any = module.config
    made = {*tokenizer.model_input_names, *(["decoder_input_ids"] * config.is_encoder_decoder)}
    if config.is_encoder_decoder and task is not TEXT2TEXT_GENERATION:
        raise ModelError(
            f"{type(module).__name__} does {task.name} by an encoder and a decoder, which is not"
            " supported",
            hint="encoder-decoders do text2text-generation",
        )
    takes = inspect.signature(module.forward).parameters
    return tuple(name for name in _INPUTS if name in made and name in takes)


def example_texts(module: nn.Module, preprocessing: TextPreprocessing) -> dict[str, Any]:
    """Return two random texts of the longest length, as the model's forward takes them."""
    config: Any = module.config
    shape = (2, preprocessing.max_length)
    generator = torch.Generator().manual_seed(0)
    made = {
        "input_ids": torch.randint(config.vocab_size, shape, generator=generator),
        "token_type_ids": torch.zeros(shape, dtype=torch.int64),
        "attention_mask": torch.ones(shape, dtype=torch.int64),
        "decoder_input_ids": torch.randint(config.vocab_size, shape, generator=generator),
    }
    return {name: made[name] for name in preprocessing.inputs} | call_settings(module)


def call_settings(module: nn.Module) -> dict[str, Any]:
    """Return settings of a call: without a cache among the outputs, where there could be one."""
    takes = inspect.signature(module.forward).parameters
    return {"use_cache": False} if "use_cache" in takes else {}


def decoder_beginning(module: nn.Module, tokenizer: Any) -> Callable[[Tensor], Tensor] | None:
    """Return what makes the tokens that a decoder reads of those that it is to write.

    Each is one later, after the token that the model begins with; mBART begins with the last one,
    the language. None without a decoder.

    Raises:
        ModelError: the model does not say what its decoder begins with.
    """
    library: Any = module
    if not library.config.is_encoder_decoder:
        return None
    if hasattr(module, "prepare_decoder_input_ids_from_labels"):
        return lambda targets: library.prepare_decoder_input_ids_from_labels(labels=targets)
    start = library.config.decoder_start_token_id
    if start is None:
        raise ModelError(
            f"{type(module).__name__} does not say what its decoder begins with",
            hint="set decoder_start_token_id in config.json",
        )

    def begin(targets: Tensor) -> Tensor:
        read = torch.cat([torch.full_like(targets[:, :1], start), targets[:, :-1]], dim=1)
        return read.masked_fill(read == IGNORED, tokenizer.pad_token_id)

    return begin


def _is_of_images(module: nn.Module) -> bool:
    takes = inspect.signature(module.forward).parameters
    if {"pixel_values", "input_ids"} <= takes.keys():
        raise ModelError(
            f"{type(module).__name__} takes images and texts together",
            hint="name a model of one of them",
        )
    return "pixel_values" in takes


def _max_length(module: nn.Module, task: Task, asked: int | None) -> int:
    most = longest_text(module)
    if asked is not None and most is not None and asked > most:
        raise ModelError(
            f"--max-length {asked} is more than the model takes: {most} tokens",
            hint=f"give --max-length {most} or less",
        )
    usual = _BLOCK if task.name in GENERATIVE else _LENGTH
    return asked or (usual if most is None else min(usual, most))


def longest_text(module: nn.Module) -> int | None:
    """Return how many tokens a model takes at most; None where its positions are relative."""
    config: Any = module.config
    if getattr(config, "relative_attention_num_buckets", None) is not None:
        return None
    most = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    return None if most is None or most <= 0 else most - _position_offset(module)


def _position_offset(module: nn.Module) -> int:
    """Return how many positions a model keeps for itself: RoBERTa's begin after the padding's."""
    embeddings = next(
        (m for n, m in module.named_modules() if n.endswith("position_embeddings")), None
    )
    if not isinstance(embeddings, nn.Embedding) or embeddings.padding_idx is None:
        return 0
    return embeddings.padding_idx + 1


def _image_preprocessing(module: nn.Module, place: Place, image_size: int | None) -> Preprocessing:
    config: Any = module.config
    path = place.extra("preprocessor_config.json")
    stored = {} if path is None else read_json(path)
    side = image_size or getattr(config, "image_size", None) or _side(stored) or _IMAGE_SIZE
    height, width = side if isinstance(side, list | tuple) else (side, side)
    channels = getattr(config, "num_channels", 3)
    mean = tuple(stored.get("image_mean") or (0.5,) * channels)
    std = tuple(stored.get("image_std") or (0.5,) * channels)
    resamples = {0: "nearest", 2: "bilinear", 3: "bicubic"}
    return Preprocessing(
        input_size=(channels, int(height), int(width)),
        mean=mean[:channels],
        std=std[:channels],
        interpolation=resamples.get(stored.get("resample", 3), "bicubic"),
        crop_pct=float(stored.get("crop_pct") or 1.0),
    )


def _masking(module: nn.Module, preprocessing: Preprocessing) -> Masking:
    """Return what is hidden from a model where nothing else is asked for."""
    config: Any = module.config
    own, given = config.image_size, preprocessing.input_size[1:]
    # Which patches are hidden is told of as many as the model has: it takes images of one size.
    if any(side != own for side in given):
        raise ModelError(
            f"{type(module).__name__} paints images of {own} pixels, not of {max(given)}",
            hint="set model.arguments.image_size in place of --image-size",
        )
    if not isinstance(config.patch_size, int):
        raise ModelError(
            f"patches of {config.patch_size} pixels are not square",
            hint="set model.arguments.patch_size to one number",
        )
    return Masking(config.patch_size)


def _side(stored: Mapping[str, Any]) -> int | None:
    size = stored.get("crop_size") or stored.get("size")
    if isinstance(size, Mapping):
        size = size.get("height") or size.get("shortest_edge")
    return size if isinstance(size, int) else None
