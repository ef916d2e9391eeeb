"""Memory for time: activations that are computed again when their gradients are."""

from typing import Any

from torch import nn

from ramda_cli.errors import ConfigError


def checkpoint_activations_(model: nn.Module) -> None:
    """Let a model of transformers or timm forget activations in training, in place.

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
