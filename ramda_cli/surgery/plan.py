"""The removal plan: what was taken out, and how the smaller model is built again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from torch import Tensor

from ramda_cli.models.loaded import ModelSource
from ramda_cli.surgery.patches import Patches
from ramda_cli.surgery.program import GraphProgram
from ramda_cli.tasks.inputs import ExampleInputs

Layout = Literal["native", "graph"]
Ranges = list[list[int]]
"""Half-open intervals [[start, stop], ...] of positions, ascending."""


@dataclass(frozen=True, eq=False)
class RemovalPlan:
    """How a model was made smaller.

    Attributes:
        removed: channels by group name.
        channels: channels before, by group name.
        kept: for every tensor that shrank, the positions kept along each dimension.
        layout: `native` when the smaller model is the original's own class with other sizes,
            `graph` when it runs the rewritten graph.
        patches: size attributes that a native model needs.
        submodules: paths at which a native model runs a graph instead of its own class.
        ranks: paths at which it has a layer of low rank, and the rank.
        source: how to build the dense model; None when it is not known.
        program: the smaller model as a graph, whatever the layout.
        constants: tensors of the program that the native model does not hold.
        aliases: tied tensors: name to the name it shares with.
        example: inputs of the model, two of them where its batch is free.
    """

    removed: Mapping[str, Sequence[int]]
    channels: Mapping[str, int]
    kept: Mapping[str, Mapping[int, Ranges]]
    layout: Layout
    patches: Patches
    source: ModelSource | None
    program: GraphProgram = field(repr=False)
    constants: Mapping[str, Tensor] = field(repr=False, default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    submodules: Mapping[str, GraphProgram] = field(repr=False, default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)
    example: ExampleInputs | None = field(repr=False, default=None)

    @property
    def keeps_classes(self) -> bool:
        """Whether the smaller model and all of its parts are of the original's classes."""
        return self.layout == "native" and not self.submodules

    def to_json(self) -> dict[str, Any]:
        """Return what the file records of the removal."""
        return {
            "removed": {name: to_ranges(channels) for name, channels in self.removed.items()},
            "channels": dict(self.channels),
            "kept": {
                name: {str(dim): ranges for dim, ranges in dims.items()}
                for name, dims in self.kept.items()
            },
        }


def to_ranges(positions: Sequence[int]) -> Ranges:
    """Return ascending positions as half-open intervals."""
    array = np.asarray(positions, dtype=np.int64)
    if array.size == 0:
        return []
    breaks = np.flatnonzero(np.diff(array) != 1)
    starts = array[np.concatenate([[0], breaks + 1])]
    stops = array[np.concatenate([breaks, [array.size - 1]])] + 1
    return [[int(start), int(stop)] for start, stop in zip(starts, stops, strict=True)]
