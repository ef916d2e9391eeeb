"""BatchNorm statistics: recomputed for the weights as they are, or left as they were."""

from itertools import islice
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ramda_cli.data.bundle import Batches
from ramda_cli.tasks.inputs import moved, split_inputs

_BATCHES = 200


@runtime_checkable
class NormsWithoutModules(Protocol):
    """A module that computes BatchNorm by itself: a graph of operations."""

    training: bool
    batch_norm_momentum: float | None
    batch_norm_frozen: bool

    @property
    def has_batch_norm(self) -> bool:
        """Whether it does."""

    def reset_batch_norm_(self) -> None:
        """Start all running statistics anew."""


@torch.no_grad()
def recompute_batch_norm_(model: nn.Module, batches: Batches, *, device: torch.device) -> bool:
    """Replace running statistics by the average over up to 200 training batches, in place.

    Running averages lag behind weights that have just been zeroed or annealed. This changes the
    function, so it comes before the proof.

    A batch that makes them infinite or NaN does not count.

    Returns:
        Whether the model has such statistics.
    """
    norms = [norm for norm in _norms(model) if norm.track_running_stats]
    graphs = _graphs(model)
    if not norms and not graphs:
        return False
    modes = {module: module.training for module in model.modules()}
    momenta = {norm: norm.momentum for norm in norms}
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    for graph in graphs:
        graph.reset_batch_norm_()
        graph.training = True
    number, statistics = 1, Statistics(model)
    for inputs, _ in islice(batches, _BATCHES):
        for norm in norms:
            norm.momentum = 1 / number  # which makes a cumulative average
        for graph in graphs:
            graph.batch_norm_momentum = 1 / number
        statistics.remember()
        args, kwargs = split_inputs(moved(inputs, device))
        model(*args, **kwargs)
        if statistics.finite():
            number += 1
        else:
            statistics.restore()
    for norm in norms:
        norm.momentum = momenta[norm]
    for graph in graphs:
        graph.batch_norm_momentum = None
    for module, mode in modes.items():
        module.training = mode
    return True


class Statistics:
    """What a forward pass changes in a model: running averages.

    Args:
        model: whose floating-point buffers can be put back as they were before a pass.
    """

    def __init__(self, model: nn.Module) -> None:
        floating = [b for b in model.buffers() if b.is_floating_point() and b.numel()]
        # One that is expanded is a constant, and cannot be written.
        self._buffers = [b for b in floating if 0 not in b.stride()]
        self._before = [torch.empty_like(buffer) for buffer in self._buffers]

    def remember(self) -> None:
        """Keep them as they are."""
        if self._buffers:
            torch._foreach_copy_(self._before, self._buffers)

    def restore(self) -> None:
        """Put them back."""
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._before)

    def finite(self) -> bool:
        """Tell whether none is infinite or NaN that was not before."""
        return all(
            bool((torch.isfinite(now) | ~torch.isfinite(before)).all())
            for now, before in zip(self._buffers, self._before, strict=True)
        )


def running_averages(model: nn.Module) -> list[Tensor]:
    """Return the running means and variances of all its normalisations, graphs' among them."""
    return [
        b for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var"))
    ]


def freeze_batch_norm_(model: nn.Module) -> None:
    """Normalise by the running statistics and leave them alone, whatever the model's mode."""
    for norm in _norms(model):
        norm.eval()
    for graph in _graphs(model):
        graph.batch_norm_frozen = True


def _norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    kind = nn.modules.batchnorm._BatchNorm
    return [module for module in model.modules() if isinstance(module, kind)]


def _graphs(model: nn.Module) -> list[NormsWithoutModules]:
    """Return the graphs with BatchNorm in a model, which may be one itself."""
    graphs = [module for module in model.modules() if isinstance(module, NormsWithoutModules)]
    return [graph for graph in graphs if graph.has_batch_norm]
