"""What can be removed from a model, without training it."""

import copy
from collections import Counter

import numpy as np
from torch import nn

from ramda_cli.config.schema import ModelConfig, StructureConfig
from ramda_cli.models.loaded import LoadedModel
from ramda_cli.models.loading import load_model
from ramda_cli.observer import Observer
from ramda_cli.pipeline.spectra import spectra
from ramda_cli.report.document import FixedEntry, ModelEntry
from ramda_cli.report.formatting import counted
from ramda_cli.report.inspection import (
    CandidateEntry,
    DenseSize,
    Inspection,
    Outcome,
    Removable,
)
from ramda_cli.report.plain import build_inspection
from ramda_cli.structure import (
    DependencyGroup,
    FixedChannels,
    Structure,
    discover,
    identify,
    zero_,
)
from ramda_cli.structure.cost import CostModel
from ramda_cli.surgery import remove
from ramda_cli.verification import verify


def inspect(
    model: ModelConfig,
    structure: StructureConfig,
    *,
    observer: Observer,
    image_size: int | None = None,
    max_length: int | None = None,
    with_spectra: bool = False,
) -> dict[str, object]:
    """Return the inspection of a model as a JSON document.

    Raises:
        ModelError: it cannot be loaded.
        StructureError: it cannot be exported.
    """
    loaded = load_model(model, image_size=image_size, max_length=max_length)
    observer.stage("discover", "exporting")
    found = discover(
        loaded.module,
        loaded.example_inputs,
        keep=structure.keep,
        residual=structure.residual,
    )
    observer.stage("discover", counted(len(found.groups), "group"))
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
            modules=_modules(loaded.module),
            outcome=_try_removal(loaded, found, observer) if found.groups else None,
            spectra=spectra(loaded.module, observer) if with_spectra else None,
            notes=loaded.notes,
        )
    )


def _modules(module: nn.Module) -> tuple[str, ...]:
    names = (name for name, _ in module.named_parameters())
    return tuple(dict.fromkeys(name.rpartition(".")[0] or name for name in names))


def _try_removal(loaded: LoadedModel, found: Structure, observer: Observer) -> Outcome:
    """Remove every second channel from a copy, to see what the smaller model will be."""
    observer.stage("trial", "removing half of the channels")
    model = copy.deepcopy(loaded.module)
    zero_(model, found, {g.name: range(0, g.channels - 1, 2) for g in found.groups})
    smaller, plan = remove(model, found, identify(model, found), source=loaded.source)
    proof = verify(model, smaller, loaded.example_inputs)
    kinds = Counter(type(model.get_submodule(path)).__name__ for path in plan.submodules)
    # A file names no code to run, so a model from a Python file is saved as a graph.
    native = plan.layout == "native" and loaded.source.kind != "file"
    observer.stage("trial", "done")
    return Outcome(
        layout="native" if native else "graph",
        submodules=dict(kinds) if native else {},
        max_relative_difference=proof.checks[0].relative_difference,
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
