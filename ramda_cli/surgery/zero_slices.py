"""How many whole slices of the weights are zero, how many went, and why the others stay."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.export.graph_signature import InputKind

from ramda_cli.structure import Structure, Support
from ramda_cli.structure.constants import weight_read
from ramda_cli.structure.discover import ChannelGraph
from ramda_cli.structure.labels import Array, Mask
from ramda_cli.structure.solve import first_fix
from ramda_cli.structure.support import named_tensors
from ramda_cli.structure.trace import Trace
from ramda_cli.surgery.folding import Folding

_CARRIES = "constants that carry those of their group"
_HELD = "one channel of a width must stay"
_USED = "the channel is neither zero nor constant where it is read"
_KEPT = "nothing can be removed there"


@dataclass(frozen=True)
class ZeroSlices:
    """Zero slices along one side of the weights.

    Attributes:
        found: how many there are.
        removed: how many of them go.
        staying: the others, by reason.
    """

    found: int
    removed: int
    staying: Mapping[str, int]


@dataclass(frozen=True)
class Zeros:
    """The zeros of a checkpoint.

    Attributes:
        share: of the elements of all weights that are zero.
        filters: slices that make a channel.
        inputs: slices that read one.
    """

    share: float
    filters: ZeroSlices
    inputs: ZeroSlices


@torch.no_grad()
def count_zeros(
    model: nn.Module, structure: Structure, support: Support, folding: Folding
) -> Zeros:
    """Count the zeros of a model before anything was folded or removed.

    Raises:
        ValueError: the structure was not discovered on a graph.
    """
    graph = structure.graph
    if graph is None:
        raise ValueError("counting needs the structure of discover(), not single-tensor groups")
    reasons = _Reasons(graph, support, folding)
    tensors = named_tensors(model)
    zero = total = 0
    sides: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for name, input_dim in _weights(graph.trace).items():
        tensor, value = tensors[name], graph.trace.parameters[name]
        zero += int((tensor == 0).sum())
        total += tensor.numel()
        for dim in range(2):
            if value.shape[dim] > 1:
                is_zero = (tensor == 0).movedim(dim, 0).flatten(1).all(dim=1).cpu().numpy()
                labels = next(e.labels for e in value.layers if dim in e.support).ravel()
                sides[dim == input_dim].update(reasons.of(labels[is_zero]))
    filters, inputs = (
        ZeroSlices(found.total(), found.pop("", 0), dict(found.most_common()))
        for found in (sides[False], sides[True])
    )
    return Zeros(zero / max(1, total), filters, inputs)


def _weights(traced: Trace) -> dict[str, int]:
    """Return what convolutions and matrix products multiply by, and its input dimension."""
    targets = {
        spec.arg.name: traced.aliases.get(spec.target, spec.target)
        for spec in traced.program.graph_signature.input_specs
        if spec.kind == InputKind.PARAMETER and spec.target is not None
    }
    found = {}
    for node in traced.program.graph.nodes:
        read = weight_read(node)
        if read is not None and read[1].name in targets:
            found[targets[read[1].name]] = read[2]
    return found


class _Reasons:
    def __init__(self, graph: ChannelGraph, support: Support, folding: Folding) -> None:
        self._graph = graph
        every = {name: range(classes.size) for name, classes in graph.members.items()}
        self._marked = [
            (self._classes(support.removable), ""),
            (self._classes(folding.carriers), _CARRIES),
            (self._classes(support.held), _HELD),
            (self._classes(every), _USED),
        ]

    def of(self, labels: Array) -> Iterator[str]:
        """Yield why each of these channels stays; an empty text where it goes."""
        for channel_class in self._graph.classes.of_label[labels].tolist():
            marked = (reason for mask, reason in self._marked if mask[channel_class])
            reason = next(marked, None)
            yield self._fixed(channel_class) if reason is None else reason

    def _classes(self, channels: Mapping[str, Sequence[int]]) -> Mask:
        mask = np.zeros(self._graph.classes.count, dtype=bool)
        for name, chosen in channels.items():
            mask[self._graph.members[name][list(chosen)]] = True
        return mask

    def _fixed(self, channel_class: int) -> str:
        classes = self._graph.classes
        if classes.fix[channel_class] < 0:
            return _KEPT
        return first_fix(classes, self._graph.trace.couplings, channel_class).reason
