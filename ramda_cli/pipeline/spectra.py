"""The singular values of every weight that could become two: what a rank would save and lose."""

import torch
from torch import Tensor, nn

from ramda_cli.observer import Observer
from ramda_cli.report.inspection import RankEntry, SpectrumEntry
from ramda_cli.structure.matrices import largest_paying_rank
from ramda_cli.structure.support import shared_parameters
from ramda_cli.surgery.low_rank_layers import most_rank

_ENERGIES = (0.5, 0.9, 0.99, 0.999)


@torch.no_grad()
def spectra(model: nn.Module, observer: Observer) -> tuple[SpectrumEntry, ...]:
    """Return the spectrum of each layer that could be factorized, in the model's order.

    A weight that several layers share is left out: it stays one matrix. So is one that is not
    finite, and a model that is a single layer.
    """
    shared = shared_parameters(model)
    found = []
    for path, layer in model.named_modules():
        weight = getattr(layer, "weight", None)
        # Tables of embeddings are large, and seldom asked to lose ranks.
        able = most_rank(layer) > 0 and not isinstance(layer, nn.Embedding)
        could = path and able and id(weight) not in shared
        if not could or not isinstance(weight, Tensor):
            continue
        if not bool(torch.isfinite(weight).all()):
            observer.note(f"{path}.weight is not finite and has no singular values")
            continue
        observer.stage("spectra", path)
        found.append(_entry(f"{path}.weight", weight))
    return tuple(found)


def _entry(name: str, weight: Tensor) -> SpectrumEntry:
    rows, cols = weight.shape[0], weight[0].numel()
    values = torch.linalg.svdvals(weight.flatten(1).double())
    energy = values.square().cumsum(0)
    total = float(energy[-1])
    ranks = []
    for share in _ENERGIES:
        rank = int((energy < share * total).sum()) + 1 if total > 0 else 0
        ranks.append(RankEntry(energy=share, rank=rank, size=rank * (rows + cols) / (rows * cols)))
    return SpectrumEntry(
        name=name,
        rows=rows,
        cols=cols,
        largest_paying_rank=largest_paying_rank(rows, cols),
        ranks=tuple(ranks),
        values=tuple(float(f"{value:.4g}") for value in values.tolist()),
    )
