"""The singular values of every weight that could become two: what a rank would save and lose."""

import torch
from torch import Tensor, nn

from ramda_cli.observer import Observer
from ramda_cli.report.inspection import RankEntry, SpectrumEntry
from ramda_cli.structure.matrices import largest_paying_rank
from ramda_cli.surgery.low_rank_layers import layers_of_rank

_ENERGIES = (0.5, 0.9, 0.99, 0.999)


@torch.no_grad()
def spectra(model: nn.Module, observer: Observer) -> tuple[SpectrumEntry, ...]:
    """Return the spectrum of each layer that could be factorized, in the model's order.

    Left out are weights that are not finite, and embeddings, whose tables are large, and seldom
    asked to lose ranks.
    """
    found = []
    for path, layer in layers_of_rank(model).items():
        weight = layer.weight
        if isinstance(layer, nn.Embedding):
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
