"""Taking out of a trained model what is zero, and proving that nothing changed."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from ramda_cli.config.schema import StructureConfig
from ramda_cli.data.bundle import DataBundle
from ramda_cli.models.loaded import LoadedModel
from ramda_cli.observer import Observer
from ramda_cli.pipeline.proving import Proven, proof_batches, prove
from ramda_cli.pipeline.ranks import ranks_lost
from ramda_cli.pipeline.targets import Planned, held_for_widths, require_reached
from ramda_cli.report.formatting import counted
from ramda_cli.structure import Structure, Support, discover, identify
from ramda_cli.structure.widths import hold_back
from ramda_cli.surgery import RemovalPlan, remove
from ramda_cli.surgery.factorize import Factorization, factorize, with_products


@dataclass(frozen=True, eq=False)
class Cut:
    """A trained model, the smaller one that computes the same, and how it was found.

    Attributes:
        model: trained, on the CPU.
        smaller: without zero channels and lost ranks.
        plan: how it was made.
        support: the zero channels.
        lost: of the weights that became two, which ranks went.
        ranks: rank and full rank of each weight that might.
        dense: why others of them did not, by parameter.
        proven: that nothing changed.
        notes: sentences for the user.
    """

    model: nn.Module
    smaller: nn.Module
    plan: RemovalPlan
    support: Support
    lost: Mapping[str, range]
    ranks: Mapping[str, tuple[int, int]]
    dense: Mapping[str, str]
    proven: Proven
    notes: tuple[str, ...]


def cut(
    loaded: LoadedModel,
    structure: Structure,
    planned: Planned,
    settings: StructureConfig,
    *,
    ranks: Mapping[str, tuple[int, int]],
    data: DataBundle,
    device: torch.device,
    observer: Observer,
) -> Cut:
    """Take zero channels and lost ranks out of a copy of a trained model.

    Args:
        loaded: with the trained model.
        structure: of it.
        planned: what was to be reached.
        settings: of the structure.
        ranks: rank and full rank of each weight that may lose ranks.
        data: on which nothing may change.
        device: where the metric is measured.
        observer: is told.

    Raises:
        TargetError: more is left than was asked for.
        EquivalenceError: the smaller model does not compute what the trained one does.
    """
    # Training may go on with the original, whose optimizer knows where its tensors are.
    model = at_rest(copy.deepcopy(loaded.module))
    observer.stage("remove", "zero channels" if not ranks else "lost ranks and zero channels")
    found = identify(model, structure)
    support = hold_back(found, structure.groups, planned.widths)
    matrices, cost = planned.cost.matrices, planned.cost
    wanted = {matrix.parameter: max(1, ranks[matrix.parameter][0]) for matrix in matrices}
    factored, factorization = factorize(model, wanted) if wanted else (model, Factorization({}, {}))
    lost = ranks_lost(matrices, ranks, factorization.ranks)
    kept = cost.kept({**support.removable, **lost})
    require_reached(planned, kept)
    if factorization.ranks:
        # Removal knows layers by what the graph says of them.
        structure = discover(factored, loaded.example_inputs, residual=settings.residual)
    smaller, plan = remove(factored, structure, support, source=loaded.source)
    plan = replace(plan, ranks=factorization.ranks)
    smaller.eval()
    size = cost.size(kept)
    gone = [counted(cost.size().channels - size.channels, "channel")]
    if factorization.ranks:
        gone.append(f"{counted(len(factorization.ranks), 'layer')} became two")
    observer.stage("remove", ", ".join(gone))

    observer.stage("verify", "float64 and float32")
    products = with_products(model, factored, factorization) if factorization.ranks else None
    proven = prove(model, smaller, proof_batches(data.val), data, device=device, products=products)
    observer.stage("verify", f"difference {proven.proof.max_abs_difference:.1e} in float64")
    return Cut(
        model, smaller, plan, support, lost, ranks, factorization.dense, proven,
        held_for_widths(found, support, cost),
    )  # fmt: skip


def at_rest(model: nn.Module) -> nn.Module:
    """Return the model as it is proven and written: on the CPU, in evaluation mode."""
    return model.to("cpu").to(memory_format=torch.contiguous_format).eval()
