"""Memory that is too small: telling it, and trading it for time."""

import gc
from typing import Any

import torch
from torch import nn

from ramda_cli.errors import ConfigError


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory was the matter, on a device or on the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def free_memory() -> None:
    """Free what a failed pass held, once its error is handled: its traceback held it."""
    gc.collect()
    torch.cuda.empty_cache()


def checkpoint_activations_(model: nn.Module) -> None:
    """Let a model of transformers or timm compute activations again for gradients, in place.

    Raises:
        ConfigError: the model cannot.
    """
    library: Any = model
    try:
        if hasattr(model, "activation_checkpointing_enable"):
            library.activation_checkpointing_enable()
        elif hasattr(model, "gradient_checkpointing_enable"):
            library.gradient_checkpointing_enable({"use_reentrant": False})
        elif hasattr(model, "set_grad_checkpointing"):
            library.set_grad_checkpointing()
        else:
            raise ValueError("its class has no way to")
    except (AssertionError, ValueError) as error:
        raise ConfigError(
            f"{type(model).__name__} cannot compute activations again: {error}",
            hint="leave out training.checkpointing; --batch-size and training.accumulate save"
            " memory too",
        ) from error
