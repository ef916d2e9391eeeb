"""Which settings of a transformers configuration say which sizes of its tensors.

Seen by building the class without memory, once as it is and once with a setting doubled.
"""

from collections.abc import Mapping

import torch

from ramda_cli.errors import ModelError
from ramda_cli.models.building import build_module
from ramda_cli.models.loaded import ModelSource

WIDTHS = (
    "intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim", "n_inner",
    "d_ff", "num_key_value_heads", "num_attention_heads", "num_heads",
)  # fmt: skip
"""Settings that say one width for every layer."""

Dimension = tuple[str, int]
"""A tensor and one of its dimensions."""


def dimensions_of_widths(source: ModelSource) -> dict[Dimension, frozenset[str]]:
    """Return the settings that each dimension of each tensor follows; none are left out.

    Args:
        source: of a transformers class.
    """
    dense = _shapes(source)
    found: dict[Dimension, set[str]] = {}
    for key in WIDTHS:
        value = source.arguments.get(key)
        if type(value) is not int:
            continue
        try:
            doubled = _shapes(
                ModelSource(source.kind, source.name, {**source.arguments, key: 2 * value})
            )
        except (ModelError, ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError):
            continue  # for one, a width need not be a multiple of twice the heads
        for name, shape in dense.items():
            for dim, (old, new) in enumerate(zip(shape, doubled.get(name, shape), strict=False)):
                if old != new:
                    found.setdefault((name, dim), set()).add(key)
    return {dimension: frozenset(keys) for dimension, keys in found.items()}


def _shapes(source: ModelSource) -> Mapping[str, torch.Size]:
    with torch.device("meta"):
        state = build_module(source).state_dict()
    return {name: tensor.shape for name, tensor in state.items()}
