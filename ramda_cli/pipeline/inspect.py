"""What can be removed from a model, without training it."""

import numpy as np

from ramda_cli.config.schema import ModelConfig, StructureConfig
from ramda_cli.models.loading import load_model
from ramda_cli.report.document import FixedEntry, ModelEntry
from ramda_cli.report.inspection import CandidateEntry, DenseSize, Inspection, Removable
from ramda_cli.report.plain import build_inspection
from ramda_cli.structure import DependencyGroup, FixedChannels, discover
from ramda_cli.structure.cost import CostModel


def inspect(
    model: ModelConfig, structure: StructureConfig, *, image_size: int | None = None
) -> dict[str, object]:
    """Return the inspection of a model as a JSON document.

    Raises:
        ModelError: it cannot be loaded.
        StructureError: it cannot be exported.
    """
    loaded = load_model(model, image_size=image_size)
    found = discover(loaded.module, loaded.example_inputs, keep=structure.keep)
    cost = CostModel(found)
    dense = cost.size()
    nothing = cost.size(np.zeros_like(cost.channels))
    fixed_channels = sum(fixed.channels for fixed in found.fixed)
    return build_inspection(
        Inspection(
            model=ModelEntry(
                name=loaded.source.name,
                kind=loaded.source.kind,
                weights=loaded.source.weights,
                classes=loaded.num_classes,
            ),
            size=DenseSize(
                params=dense.params, macs=dense.macs, channels=dense.channels + fixed_channels
            ),
            groups=tuple(
                _candidate(group, number, cost) for number, group in enumerate(found.groups)
            ),
            fixed=fixed_entries(found.fixed),
            removable=Removable(
                params_share=1 - nothing.params / dense.params,
                macs_share=1 - nothing.macs / dense.macs if dense.macs else 0.0,
                channels=dense.channels,
            ),
            notes=loaded.notes,
        )
    )


def fixed_entries(fixed: tuple[FixedChannels, ...]) -> tuple[FixedEntry, ...]:
    """Return fixed sets as the report lists them."""
    return tuple(
        FixedEntry(name=f.name, reason=f.reason, operator=f.operator, channels=f.channels)
        for f in fixed
    )


def _candidate(group: DependencyGroup, number: int, cost: CostModel) -> CandidateEntry:
    without = cost.channels.copy()
    without[number] = 0
    dense, rest = cost.size(), cost.size(without)
    # A flattened map has a large block at its reader only; heads and groups have one everywhere.
    block = min(part.block for part in group.coupled)
    return CandidateEntry(
        name=group.name,
        channels=group.channels,
        params=dense.params - rest.params,
        macs=dense.macs - rest.macs,
        unit="channel" if block == 1 else f"block of {block}",
        penalized=tuple(dict.fromkeys(part.parameter for part in group.penalized)),
        coupled=tuple(dict.fromkeys(part.parameter for part in group.coupled)),
    )
