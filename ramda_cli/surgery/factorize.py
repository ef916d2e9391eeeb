"""Take ranks out of a model: a layer whose weight has rank r becomes two thin ones.

A layer of m by n pays where r (m + n) < m n; any other stays as it is.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ramda_cli.structure.support import shared_parameters
from ramda_cli.surgery.low_rank_layers import (
    can_be_two,
    has_hooks,
    low_rank_like,
    most_rank,
    product,
    set_factors_,
)
from ramda_cli.surgery.patches import set_module_


@dataclass(frozen=True)
class Factorization:
    """What became of the weights of low rank.

    Attributes:
        ranks: of the layers that are two now, by path.
        dense: parameters that stayed, with the reason.
    """

    ranks: Mapping[str, int]
    dense: Mapping[str, str]


@torch.no_grad()
def factorize(model: nn.Module, ranks: Mapping[str, int]) -> tuple[nn.Module, Factorization]:
    """Return a copy of the model whose weights of low rank are products.

    The factors are those of the singular value decomposition in float64, rounded to the precision
    of the model. A weight of rank 0 keeps a rank of 1, of zeros.

    Args:
        model: left as it is.
        ranks: of parameters by qualified name; what a weight has beyond its rank is left out.

    Raises:
        ValueError: there is no such parameter, or a rank is negative.
    """
    smaller = copy.deepcopy(model)
    named = dict(smaller.named_parameters(remove_duplicate=False))
    shared = shared_parameters(smaller)
    taken: dict[str, int] = {}
    dense: dict[str, str] = {}
    for name, rank in ranks.items():
        if name not in named:
            raise ValueError(f"no parameter is named {name!r}")
        if rank < 0:
            raise ValueError(f"the rank of {name} must be >= 0, got {rank}")
        path, _, leaf = name.rpartition(".")
        layer, weight = smaller.get_submodule(path), named[name]
        reason = _why_dense(layer, leaf, weight, max(1, rank))
        if id(weight) in shared:
            reason = "it is shared with another layer"
        replaced = None if reason or not path else low_rank_like(layer, max(1, rank))
        if replaced is None:
            dense[name] = reason or "it is the whole model"
            continue
        set_factors_(replaced, weight)
        for factor in (replaced.down.weight, replaced.up.weight):
            factor.requires_grad_(weight.requires_grad)
        bias = getattr(layer, "bias", None)
        if isinstance(bias, nn.Parameter) and replaced.up.bias is not None:
            replaced.up.bias.copy_(bias)
            replaced.up.bias.requires_grad_(bias.requires_grad)
        set_module_(smaller, layer, replaced)
        taken[path] = max(1, rank)
    return smaller, Factorization(taken, dense)


def thin_model(model: nn.Module, ranks: Mapping[str, int]) -> nn.Module:
    """Return a copy whose layers are two of these ranks, with random factors: for its speed.

    Args:
        model: left as it is.
        ranks: by the path of the layer.
    """
    thin = copy.deepcopy(model)
    for path, rank in ranks.items():
        layer = thin.get_submodule(path)
        two = low_rank_like(layer, rank)
        if two is not None:
            for factor in (two.down, two.up):
                factor.reset_parameters()
            set_module_(thin, layer, two)
    return thin


def _why_dense(layer: nn.Module, leaf: str, weight: Tensor, rank: int) -> str | None:
    """Return why a weight stays as it is; None where it becomes two."""
    if leaf != "weight" or not can_be_two(layer):
        return f"a {type(layer).__name__} is not made of two layers"
    if has_hooks(layer):
        return "hooks are registered on it"
    most = most_rank(layer)
    if rank > most:
        size = f"{weight.shape[0]} x {weight.numel() // weight.shape[0]}"
        would = f"up to {most} would" if most else "no rank does"
        return f"rank {rank} of {size} saves nothing; {would}"
    return None


@torch.no_grad()
def with_products(model: nn.Module, factored: nn.Module, factorization: Factorization) -> nn.Module:
    """Return a copy of the dense model, in float64, with the weights that the factors stand for."""
    dense = copy.deepcopy(model).double()
    for path in factorization.ranks:
        layer = factored.get_submodule(path)
        dense.get_submodule(path).weight.copy_(product(layer))  # type: ignore[operator, arg-type]
    return dense
