"""A latency table: what each operator of a model takes on a device, as a function of the widths.

Smaller models of random widths are built by removing channels, and each of their operators is
timed. An operator's time is fitted, by non-negative least squares over these models, as

    t = a + b · MACs + c · elements of its result + d · elements of its operands,

where each of the three is a product of sizes that are affine in the kept channels. The sum over the
operators is brought to the time of the whole model by a factor and a constant, fitted the same way.
What comes out is a `Products`, as every cost is.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import nnls
from torch import fx, nn
from torch.utils import _pytree as pytree

from ramda_cli.latency.timing import Candidate, Timed, time_models
from ramda_cli.observer import Observer
from ramda_cli.structure import Structure, Support, zero_
from ramda_cli.structure.discover import ChannelGraph
from ramda_cli.structure.labels import Value
from ramda_cli.structure.size_terms import Counts, Products, SizeTerms, Term, pack
from ramda_cli.surgery import remove
from ramda_cli.surgery.kept import KeptPositions
from ramda_cli.surgery.rewrite import rewrite_program
from ramda_cli.tasks.inputs import ExampleInputs, split_inputs

_FITTED = 12
"""Models that are fitted; with four unknowns an operator has three times as many equations."""

_CHECKED = 3
"""Models that the fit has not seen."""

_LEAST_SHARE = 0.15


@dataclass(frozen=True, eq=False)
class LatencyTable:
    """What was measured and fitted.

    Attributes:
        products: nanoseconds of a model, over the kept channels of each group.
        dense_ns: measured, of the dense model.
        operators: nanoseconds of each operator of the dense model, as it was fitted, by name.
        errors: relative, of the fit for models that it has not seen.
    """

    products: Products
    dense_ns: float
    operators: dict[str, float]
    errors: tuple[float, ...]


@torch.no_grad()
def measure_table(
    model: nn.Module,
    structure: Structure,
    inputs: ExampleInputs,
    *,
    device: torch.device,
    floor: npt.NDArray[np.int64],
    observer: Observer,
    seed: int = 0,
) -> LatencyTable:
    """Time smaller models of random widths and fit the table.

    Args:
        model: in evaluation mode on `device`; its time does not depend on its weights.
        structure: of the model.
        inputs: what is timed: as for `discover`, and of the same sizes but for the batch.
        device: where to measure.
        floor: channels of each group that the smallest of these models keep.
        observer: is told of the progress.
        seed: of the widths.

    Raises:
        ValueError: the structure was not discovered on a graph.
    """
    graph = structure.graph
    if graph is None:
        raise ValueError("latencies need the structure of discover(), not single-tensor groups")
    channels = np.array([group.channels for group in structure.groups], dtype=np.int64)
    kept = _random_widths(channels, floor, seed)
    candidates = [_candidate(model, structure, graph, counts) for counts in kept]
    args, kwargs = pytree.tree_map(
        lambda leaf: leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf,
        split_inputs(inputs),
    )
    observer.stage("latency", f"timing {len(kept)} models of random widths")
    timed = time_models(candidates, args, kwargs, device=device)
    return _fit(SizeTerms(structure), graph, kept, timed)


def _random_widths(
    channels: npt.NDArray[np.int64], floor: npt.NDArray[np.int64], seed: int
) -> list[Counts]:
    """Return dense widths first, then random ones: of some models most are small, of some large."""
    generator = np.random.default_rng(seed)
    least = np.maximum(floor, np.ceil(_LEAST_SHARE * channels))
    widths = [channels.astype(np.float64)]
    for overall in generator.permutation(np.linspace(0.0, 1.0, _FITTED + _CHECKED - 1)):
        share = np.clip(overall + generator.uniform(-0.4, 0.4, channels.size), 0.0, 1.0)
        widths.append(np.maximum(least, np.round(least + share * (channels - least))))
    return widths


@torch.no_grad()
def model_of_widths(model: nn.Module, structure: Structure, kept: Counts) -> nn.Module:
    """Return a smaller model, as a run writes it, of so many channels in each group.

    Args:
        model: in evaluation mode; left as it is.
        structure: discovered on it.
        kept: of each group, the first ones.
    """
    gone = _gone(structure, kept)
    zeroed = copy.deepcopy(model)
    zero_(zeroed, structure, gone)  # else the removal would change the outputs
    smaller, _ = remove(zeroed, structure, Support(gone, {}))
    return smaller.eval()


def _candidate(
    model: nn.Module, structure: Structure, graph: ChannelGraph, kept: Counts
) -> Candidate:
    positions = KeptPositions.of_channels(graph, _gone(structure, kept))
    rewritten = rewrite_program(model, graph.trace, positions).eval()
    return Candidate(model_of_widths(model, structure, kept), rewritten)


def _gone(structure: Structure, kept: Counts) -> dict[str, list[int]]:
    return {
        group.name: list(range(int(count), group.channels))
        for group, count in zip(structure.groups, kept, strict=True)
        if count < group.channels
    }


def _fit(
    sizes: SizeTerms, graph: ChannelGraph, kept: Sequence[Counts], timed: Sequence[Timed]
) -> LatencyTable:
    fitted, checked = slice(None, _FITTED), slice(_FITTED, None)
    terms: list[Term] = []
    operators: dict[str, float] = {}
    for node in graph.trace.program.graph.nodes:
        times = np.array([each.operators.get(node.name, 0.0) for each in timed[fitted]])
        if times.all():
            found = _fit_operator(sizes, graph, node, times, kept[fitted])
            operators[node.name] = pack(found, sizes.counts)(kept[0])
            terms += found
    whole = np.array([each.whole for each in timed])
    summed = np.array([pack(terms, sizes.counts)(counts) for counts in kept])
    factor, constant = _fit_shares(
        np.stack([summed, np.ones_like(summed)])[:, fitted].T, whole[fitted]
    )
    scaled = [(factor * c, factors) for c, factors in terms]
    products = pack([(constant, []), *scaled], sizes.counts)
    errors = (factor * summed[checked] + constant) / whole[checked] - 1
    return LatencyTable(products, float(whole[0]), operators, tuple(errors.tolist()))


def _fit_operator(
    sizes: SizeTerms,
    graph: ChannelGraph,
    node: fx.Node,
    times: npt.NDArray[np.float64],
    kept: Sequence[Counts],
) -> list[Term]:
    """Return the terms of one operator, in nanoseconds."""
    constant: list[Term] = [(1.0, [])]
    candidates = [constant, sizes.contraction(node), *_elements(sizes, graph, node)]
    features = [terms for terms in candidates if terms]
    columns = np.array(
        [[pack(terms, sizes.counts)(counts) for terms in features] for counts in kept]
    )
    return [
        (weight * c, factors)
        for weight, terms in zip(_fit_shares(columns, times), features, strict=True)
        for c, factors in terms
        if weight > 0
    ]


def _fit_shares(
    columns: npt.NDArray[np.float64], times: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return what of each column adds up to the times, none of it negative.

    Each equation is divided by its time, for small models to count as much as large ones.
    """
    scale = columns.max(axis=0)
    shares, _ = nnls(columns / scale / times[:, None], np.ones(len(times)))
    return shares / scale


def _elements(sizes: SizeTerms, graph: ChannelGraph, node: fx.Node) -> list[list[Term]]:
    """Return the elements of an operator's result and those of its operands."""
    values = graph.trace.values
    result = values.get(node.name)
    made: list[Term] = [(1.0, sizes.elements(result))] if isinstance(result, Value) else []
    operands = [values.get(operand.name) for operand in node.all_input_nodes]
    read: list[Term] = [
        (1.0, sizes.elements(value)) for value in operands if isinstance(value, Value)
    ]
    return [made, read]
