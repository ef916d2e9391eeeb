"""The table of size attributes: which class keeps which sizes in Python, computed from its weights.

By class, never by value: two attributes of equal value can mean different things. An entry holds
for subclasses too. Listed are classes of torch, timm and transformers whose forward is right once
these attributes are; a class that takes a size from the width of its input is not (see
`ramda_cli.surgery.submodules`).
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

Size = int | list[int]
"""A size, or several in a tuple or list."""

CONV_ATTRIBUTES = ("in_channels", "out_channels", "groups")


def sizes_of(path: str, module: nn.Module, conv_groups: Mapping[str, int]) -> dict[str, Size]:
    """Return the sizes that a module with its new tensors must have, by attribute.

    Args:
        path: of the module in the model.
        module: with tensors that are already smaller.
        conv_groups: number of groups of each convolution, by the name of its weight.
    """
    if isinstance(module, nn.modules.conv._ConvNd):
        return _convolution(path, module, conv_groups)
    for name in _names(module):
        if name in _SIZES:
            computed = {attribute: compute(module) for attribute, compute in _SIZES[name].items()}
            return {key: size for key, size in computed.items() if has_attribute(module, key)}
    return {}


def attributes_of(module: nn.Module) -> tuple[str, ...]:
    """Return the size attributes that may be set on a module."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return CONV_ATTRIBUTES
    return next((tuple(_SIZES[name]) for name in _names(module) if name in _SIZES), ())


def has_attribute(module: nn.Module, name: str) -> bool:
    """Tell whether a module has an attribute; `config.x` is of its configuration."""
    owner, _, leaf = name.rpartition(".")
    return hasattr(getattr(module, owner) if owner else module, leaf)


def _names(module: nn.Module) -> list[str]:
    return [f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__]


def _convolution(path: str, module: Any, conv_groups: Mapping[str, int]) -> dict[str, Size]:
    groups = conv_groups.get(f"{path}.weight" if path else "weight", module.groups)
    one, other = module.weight.shape[:2]
    sizes = (one, other * groups) if module.transposed else (other * groups, one)
    return dict(zip(CONV_ATTRIBUTES, (*sizes, groups), strict=True))


def _rows(path: str, parts: int = 1) -> Callable[[Any], int]:
    """Return the rows of a child's weight, or what is in each of several equal parts."""
    return lambda module: _weight(module, path).shape[0] // parts


def _columns(path: str, parts: int = 1) -> Callable[[Any], int]:
    return lambda module: _weight(module, path).shape[1] // parts


def _heads(path: str, dim: int, head: str = "head_dim") -> Callable[[Any], int]:
    """Return how many heads a child's weight has along `dim`."""
    return lambda module: _weight(module, path).shape[dim] // getattr(module, head)


def _weight(module: Any, path: str) -> Any:
    return module.get_submodule(path).weight


def _norm_features(module: Any) -> int:
    return module.num_features if module.weight is None else module.weight.shape[0]


def _falcon_groups(module: Any) -> tuple[int, int]:
    """Return query and key/value heads of one packed projection."""
    units = _weight(module, "query_key_value").shape[0] // module.head_dim
    if module.new_decoder_architecture:
        queries = module.num_heads // module.num_kv_heads
        return queries * units // (queries + 2), units // (queries + 2)
    return (units - 2, 1) if module.multi_query else (units // 3, units // 3)


def _phi3_pairs(module: Any) -> int:
    """Return the key/value heads of one packed projection."""
    units = _weight(module, "qkv_proj").shape[0] // module.head_dim
    return units // (module.num_key_value_groups + 2)


_SIZES: dict[str, dict[str, Callable[[Any], Size]]] = {
    "torch.nn.modules.linear.Linear": {"out_features": _rows(""), "in_features": _columns("")},
    "torch.nn.modules.rnn.LSTM": {
        "hidden_size": lambda module: module.weight_hh_l0.shape[1],
        "input_size": lambda module: module.weight_ih_l0.shape[1],
    },
    "torch.nn.modules.rnn.LSTMCell": {
        "hidden_size": lambda module: module.weight_hh.shape[1],
        "input_size": lambda module: module.weight_ih.shape[1],
    },
    "torch.nn.modules.batchnorm._NormBase": {"num_features": _norm_features},
    "torch.nn.modules.sparse.Embedding": {"embedding_dim": _columns("")},
    "timm.layers.attention.Attention": {
        "num_heads": _heads("proj", 1),
        "attn_dim": _columns("proj"),
    },
    "timm.layers.attention.AttentionRope": {
        "num_heads": _heads("proj", 1),
        "attn_dim": _columns("proj"),
    },
    "transformers.pytorch_utils.Conv1D": {"nf": _columns(""), "nx": _rows("")},
    "transformers.models.gpt2.modeling_gpt2.GPT2Attention": {
        "num_heads": _heads("c_proj", 0),
        "split_size": _rows("c_proj"),
    },
    "transformers.models.opt.modeling_opt.OPTAttention": {"num_heads": _heads("q_proj", 0)},
    "transformers.models.falcon.modeling_falcon.FalconAttention": {
        "num_heads": lambda module: _falcon_groups(module)[0],
        "num_kv_heads": lambda module: _falcon_groups(module)[1],
    },
    "transformers.models.phi3.modeling_phi3.Phi3Attention": {
        "num_key_value_heads": _phi3_pairs,
        "config.num_key_value_heads": _phi3_pairs,
        "config.num_attention_heads": lambda module: (
            _phi3_pairs(module) * module.num_key_value_groups
        ),
    },
    "transformers.models.whisper.modeling_whisper.WhisperAttention": {
        "num_heads": _heads("q_proj", 0)
    },
    "transformers.models.t5.modeling_t5.T5Attention": {
        "n_heads": _heads("q", 0, "key_value_proj_dim"),
        "inner_dim": _rows("q"),
    },
    "transformers.models.mpnet.modeling_mpnet.MPNetSelfAttention": {
        "num_attention_heads": _heads("q", 0, "attention_head_size"),
        "all_head_size": _rows("q"),
    },
    "transformers.models.deberta_v2.modeling_deberta_v2.DisentangledSelfAttention": {
        "num_attention_heads": _heads("query_proj", 0, "attention_head_size"),
        "all_head_size": _rows("query_proj"),
    },
    "transformers.models.mobilevit.modeling_mobilevit.MobileViTSelfAttention": {
        "num_attention_heads": _heads("query", 0, "attention_head_size"),
        "all_head_size": _rows("query"),
    },
}
