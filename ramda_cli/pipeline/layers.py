"""How wide each layer is before and after the removal."""

from collections import defaultdict

from torch import Tensor, nn

from ramda_cli.report.document import LayerEntry
from ramda_cli.structure import Structure
from ramda_cli.surgery import RemovalPlan


def layer_entries(module: nn.Module, structure: Structure, plan: RemovalPlan) -> list[LayerEntry]:
    """Return every weight with an input and an output dimension, in the model's order."""
    making: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    reading: dict[str, set[int]] = defaultdict(set)
    for group in structure.groups:
        read = {(part.parameter, part.dim) for part in group.penalized}
        for part in group.coupled:
            if (part.parameter, part.dim) in read:
                reading[part.parameter].add(part.dim)
            else:
                making[part.parameter][part.dim].append(group.name)
    entries = []
    for path, owner in module.named_modules():
        for name, weight in owner.named_parameters(path, recurse=False):
            if weight.ndim < 2 or "weight" not in name.rpartition(".")[2]:
                continue
            dim = _output_dim(owner, set(making[name]), reading[name])
            entries.append(
                LayerEntry(
                    name=name.removesuffix(".weight"),
                    kind=type(owner).__name__,
                    width=weight.shape[dim],
                    kept=_kept(plan, name, weight, dim),
                    groups=tuple(dict.fromkeys(making[name][dim])),
                )
            )
    return entries


def _output_dim(owner: nn.Module, making: set[int], reading: set[int]) -> int:
    """Return 0, but where the weight is stored the other way round."""
    transposed = isinstance(owner, nn.Embedding) or getattr(owner, "transposed", False)
    return 1 if transposed or 0 in reading or (1 in making and 0 not in making) else 0


def _kept(plan: RemovalPlan, name: str, weight: Tensor, dim: int) -> int:
    ranges = plan.kept.get(name, {}).get(dim)
    return weight.shape[dim] if ranges is None else sum(stop - start for start, stop in ranges)
