"""Take ranks out of a model: a layer whose weight has rank r becomes two thin ones.

A layer of m by n pays where r (m + n) < m n; any other stays as it is.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ramda_cli.surgery.low_rank_layers import (
    largest_paying_rank,
    low_rank_like,
    pays,
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
    names_of: dict[int, int] = {}
    for parameter in named.values():
        names_of[id(parameter)] = names_of.get(id(parameter), 0) + 1
    taken: dict[str, int] = {}
    dense: dict[str, str] = {}
    for name, rank in ranks.items():
        if name not in named:
            raise ValueError(f"no parameter is named {name!r}")
        if rank < 0:
            raise ValueError(f"the rank of {name} must be >= 0, got {rank}")
        path, _, leaf = name.rpartition(".")
        layer, weight = smaller.get_submodule(path), named[name]
        rows = weight.shape[0]
        cols = weight.numel() // rows
        replaced = low_rank_like(layer, max(1, rank)) if leaf == "weight" else None
        if names_of[id(weight)] > 1:
            dense[name] = "it is shared with another layer"
        elif replaced is None:
            dense[name] = f"a {type(layer).__name__} is not made of two layers"
        elif not pays(max(1, rank), rows, cols):
            most = largest_paying_rank(rows, cols)
            dense[name] = f"rank {rank} of {rows} x {cols} saves nothing; up to {most} would"
        else:
            replaced.to(device=weight.device, dtype=weight.dtype).train(layer.training)
            set_factors_(replaced, weight)
            bias = getattr(layer, "bias", None)
            if replaced.up.bias is not None and bias is not None:
                replaced.up.bias.copy_(bias)
            _like(replaced, weight.requires_grad)
            set_module_(smaller, layer, replaced)
            taken[path] = max(1, rank)
    return smaller, Factorization(taken, dense)


@torch.no_grad()
def products(smaller: nn.Module, factorization: Factorization) -> dict[str, torch.Tensor]:
    """Return the weights that the factors stand for, in float64, by the dense parameter's name."""
    found = {}
    for path in factorization.ranks:
        layer = smaller.get_submodule(path)
        found[f"{path}.weight"] = product(layer)  # type: ignore[arg-type]
    return found


def _like(layer: nn.Module, trains: bool) -> None:
    for parameter in layer.parameters():
        parameter.requires_grad_(trains)
