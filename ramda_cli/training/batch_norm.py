"""BatchNorm statistics: recomputed for the weights as they are, or left as they were."""

from itertools import islice

import torch
from torch import nn

from ramda_cli.data.bundle import Batches

_BATCHES = 200


@torch.no_grad()
def recompute_batch_norm_(model: nn.Module, batches: Batches, *, device: torch.device) -> bool:
    """Replace running statistics by the average over up to 200 training batches, in place.

    Running averages lag behind weights that have just been zeroed or annealed. This changes the
    function, so it comes before the proof.

    Returns:
        Whether the model has such statistics.
    """
    norms = [norm for norm in _norms(model) if norm.track_running_stats]
    if not norms:
        return False
    modes = {module: module.training for module in model.modules()}
    momenta = {norm: norm.momentum for norm in norms}
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    for images, _ in islice(batches, _BATCHES):
        model(images.to(device))
    for norm in norms:
        norm.momentum = momenta[norm]
    for module, mode in modes.items():
        module.training = mode
    return True


def freeze_batch_norm_(model: nn.Module) -> None:
    """Normalise by the running statistics and leave them alone, whatever the model's mode."""
    for norm in _norms(model):
        norm.eval()


def _norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    kind = nn.modules.batchnorm._BatchNorm
    return [module for module in model.modules() if isinstance(module, kind)]
