"""Layers whose weight is a product of two: a matrix of rank r costs r (rows + cols) then."""

from typing import Any, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ramda_cli.regularizers.singular_values import leading_singular_values
from ramda_cli.structure.matrices import largest_paying_rank
from ramda_cli.structure.support import shared_parameters


class LowRankLinear(nn.Module):
    """A linear layer through r features: y = up (down x) + bias.

    Args:
        in_features: of x.
        out_features: of y.
        rank: r >= 1.
        bias: whether there is one.
    """

    def __init__(self, in_features: int, out_features: int, rank: int, *, bias: bool) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.down = nn.Linear(in_features, rank, bias=False)
        self.up = nn.Linear(rank, out_features, bias=bias)

    @property
    def weight(self) -> Float[Tensor, "out_features in_features"]:
        """The product, which code that looks at a layer's weight finds."""
        return self.up.weight @ self.down.weight

    @property
    def bias(self) -> Tensor | None:
        """Of the product."""
        return self.up.bias

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by one factor after the other."""
        return self.up(self.down(x))


class LowRankConv(nn.Module):
    """A convolution to r channels, and one of size 1 from there.

    Args:
        dense: the convolution whose sizes, stride, padding and dilation it has.
        rank: r >= 1.
    """

    def __init__(self, dense: nn.Conv1d | nn.Conv2d, rank: int) -> None:
        super().__init__()
        kind: Any = type(dense)
        self.in_channels = dense.in_channels
        self.out_channels = dense.out_channels
        self.down = kind(
            dense.in_channels, rank, dense.kernel_size,
            stride=dense.stride, padding=dense.padding, dilation=dense.dilation,
            padding_mode=dense.padding_mode, bias=False,
        )  # fmt: skip
        self.up = kind(rank, dense.out_channels, 1, bias=dense.bias is not None)

    @property
    def weight(self) -> Tensor:
        """The product, of the dense convolution's shape."""
        product = self.up.weight.flatten(1) @ self.down.weight.flatten(1)
        return product.view(-1, *self.down.weight.shape[1:])

    @property
    def bias(self) -> Tensor | None:
        """Of the product."""
        return self.up.bias

    def forward(self, x: Tensor) -> Tensor:
        """Convolve with one factor after the other."""
        return self.up(self.down(x))


class LowRankEmbedding(nn.Module):
    """A table of r columns, and a linear layer from there: y = up (down i).

    Args:
        dense: the table whose number of rows it has.
        rank: r >= 1.
    """

    def __init__(self, dense: nn.Embedding, rank: int) -> None:
        super().__init__()
        self.num_embeddings = dense.num_embeddings
        self.embedding_dim = dense.embedding_dim
        self.padding_idx = dense.padding_idx
        self.down = nn.Embedding(dense.num_embeddings, rank, padding_idx=dense.padding_idx)
        self.up = nn.Linear(rank, dense.embedding_dim, bias=False)

    @property
    def weight(self) -> Float[Tensor, "num_embeddings embedding_dim"]:
        """The product, of the dense table's shape."""
        return self.down.weight @ self.up.weight.mT

    def forward(self, i: Tensor) -> Tensor:
        """Look up rows of one factor and multiply by the other."""
        return self.up(self.down(i))


LowRankLayer = LowRankLinear | LowRankConv | LowRankEmbedding


def most_rank(layer: nn.Module) -> int:
    """Return the largest rank at which a layer becomes two; 0 where that is not known."""
    if not can_be_two(layer):
        return 0
    rows = layer.weight.shape[0]
    return largest_paying_rank(rows, layer.weight.numel() // rows)


def low_rank_like(layer: nn.Module, rank: int) -> LowRankLayer | None:
    """Return a layer of a rank in the place of a dense one, unset; None where none is known.

    It is on the dense layer's device and of its dtype; no random number is drawn.
    """
    if not can_be_two(layer):
        return None
    with torch.device("meta"):
        if isinstance(layer, nn.Embedding):
            empty: LowRankLayer = LowRankEmbedding(layer, rank)
        elif isinstance(layer, nn.Linear):
            bias = layer.bias is not None
            empty = LowRankLinear(layer.in_features, layer.out_features, rank, bias=bias)
        else:
            empty = LowRankConv(layer, rank)
    weight = layer.weight
    return empty.to_empty(device=weight.device).to(weight.dtype).train(layer.training)


def can_be_two(layer: nn.Module) -> TypeGuard[nn.Linear | nn.Conv1d | nn.Conv2d | nn.Embedding]:
    """Tell whether a layer is of a kind that two of low rank can replace."""
    if not isinstance(layer._parameters.get("weight"), nn.Parameter):
        return False  # a parametrization makes it
    # Subclasses may compute something else.
    if type(layer) is nn.Embedding:
        return layer.max_norm is None and not layer.sparse
    if type(layer) in (nn.Conv1d, nn.Conv2d):
        return isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.groups == 1
    return type(layer) is nn.Linear


def layers_of_rank(model: nn.Module) -> dict[str, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Embedding]:
    """Return the layers within a model that two could replace, with fewer entries, by path.

    A weight that several layers share stays one matrix, and so does a model that is one layer.
    """
    shared = shared_parameters(model)
    return {
        path: layer
        for path, layer in model.named_modules()
        if path and can_be_two(layer) and most_rank(layer) > 0 and id(layer.weight) not in shared
    }


def has_hooks(layer: nn.Module) -> bool:
    """Tell whether something is done before or after it, which two layers would not do."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


@torch.no_grad()
def set_factors_(layer: LowRankLayer, weight: Tensor) -> None:
    """Take the best factors for a weight, of equal norms, in place.

    They come from the singular value decomposition in float64: up = U √Σ, down = √Σ Vᵀ, cut to the
    layer's rank.
    """
    rank = layer.up.weight.shape[1]
    left, values, right = leading_singular_values(weight.flatten(1), rank)
    root = values.sqrt()
    if isinstance(layer, LowRankEmbedding):
        layer.down.weight.copy_(left * root)
        layer.up.weight.copy_((root[:, None] * right).mT)
        return
    layer.up.weight.copy_((left * root).view_as(layer.up.weight))
    layer.down.weight.copy_((root[:, None] * right).view_as(layer.down.weight))


def product(layer: LowRankLayer) -> Tensor:
    """Return the product of the factors in float64, in the shape of the dense weight."""
    embedding = isinstance(layer, LowRankEmbedding)
    return multiplied(layer.down.weight, layer.up.weight, embedding=embedding)


def multiplied(down: Tensor, up: Tensor, *, embedding: bool) -> Tensor:
    """Return the product of two factors in float64, in the shape of the weight they stand for."""
    if embedding:
        return down.double() @ up.double().mT
    factors = up.flatten(1).double() @ down.flatten(1).double()
    return factors.view(-1, *down.shape[1:])
