"""Which weights lose ranks, which channels stay for their sake, and what became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from ramda_cli.errors import ConfigError
from ramda_cli.report.document import MatrixEntry
from ramda_cli.structure import Structure
from ramda_cli.structure.groups import DependencyGroup, FixedChannels
from ramda_cli.structure.matrices import Matrix
from ramda_cli.structure.support import shared_parameters
from ramda_cli.surgery.low_rank_layers import can_be_two, most_rank

_POINTS = 64
"""Singular values of a matrix that a report has; of more some are left out."""


def choose_matrices(model: nn.Module, patterns: Sequence[str]) -> tuple[Matrix, ...]:
    """Return the weights of the layers that match, in the model's order.

    A pattern takes of what it matches what can become two layers; an embedding is taken only where
    its name is given whole, as looking up a row of a product is slower.

    Raises:
        ConfigError: a pattern matches nothing that can.
    """
    layers = {path: layer for path, layer in model.named_modules() if path}
    shared = shared_parameters(model)
    able = {
        path: layer
        for path, layer in layers.items()
        if can_be_two(layer) and most_rank(layer) > 0 and id(layer.weight) not in shared
    }
    chosen: set[str] = set()
    for pattern in patterns:
        found = {
            path
            for path, layer in able.items()
            if path == pattern
            or (not isinstance(layer, nn.Embedding) and fnmatchcase(path, pattern))
        }
        if not found:
            raise _no_match(pattern, layers, able)
        chosen |= found
    return tuple(_matrix(path, layer) for path, layer in able.items() if path in chosen)


def hold_channels(structure: Structure, matrices: Sequence[Matrix]) -> Structure:
    """Return the structure without the groups that penalize a weight which loses ranks."""
    of_rank = {matrix.parameter for matrix in matrices}
    groups, fixed = [], []
    for group in structure.groups:
        shared = next((p.parameter for p in group.penalized if p.parameter in of_rank), None)
        if shared is None:
            groups.append(group)
        else:
            reason = f"ranks of {shared} go in place of channels"
            fixed.append(FixedChannels(group.name, group.channels, reason))
    return replace(structure, groups=tuple(groups), fixed=(*structure.fixed, *fixed))


def counterparts(structure: Structure, factored: Structure) -> dict[str, str]:
    """Return for each group the name that it has where its layer has become two.

    What a group penalizes does not become two; what makes its channels may.
    """
    by_slices = {_slices(group): group.name for group in factored.groups}
    return {group.name: by_slices[_slices(group)] for group in structure.groups}


def ranks_lost(
    matrices: Sequence[Matrix], ranks: Mapping[str, tuple[int, int]]
) -> dict[str, range]:
    """Return for each matrix that becomes two which ranks go, as removed channels are told."""
    lost = {}
    for matrix in matrices:
        rank = max(1, ranks[matrix.parameter][0])
        if rank <= matrix.largest_paying_rank and rank < matrix.full_rank:
            lost[matrix.parameter] = range(matrix.full_rank - rank)
    return lost


def spectra_of(model: nn.Module, matrices: Sequence[Matrix]) -> dict[str, tuple[float, ...]]:
    """Return singular values of each weight, the largest first, evenly thinned where many."""
    return {each.parameter: _spectrum(model, each) for each in matrices}


def matrix_entries(
    matrices: Sequence[Matrix],
    ranks: Mapping[str, tuple[int, int]],
    before: Mapping[str, tuple[float, ...]],
    smaller: nn.Module,
    dense: Mapping[str, str],
) -> tuple[MatrixEntry, ...]:
    """Return the report's entries.

    Args:
        matrices: weights that might lose ranks.
        ranks: rank and full rank of each, as they were trained.
        before: singular values before the training.
        smaller: the model that is in the files.
        dense: why a weight did not become two, by parameter.
    """
    return tuple(
        MatrixEntry(
            name=matrix.parameter,
            rows=matrix.rows,
            cols=matrix.cols,
            full_rank=matrix.full_rank,
            rank=ranks[matrix.parameter][0],
            factorized=matrix.parameter not in dense,
            reason=dense.get(matrix.parameter),
            before=before[matrix.parameter],
            after=_spectrum(smaller, matrix),
        )
        for matrix in matrices
    )


def _slices(group: DependencyGroup) -> frozenset[tuple[str, int]]:
    return frozenset((part.parameter, part.dim) for part in group.penalized)


def _matrix(path: str, layer: nn.Module) -> Matrix:
    weight = layer.get_parameter("weight")
    return Matrix(f"{path}.weight", weight.shape[0], weight[0].numel())


@torch.no_grad()
def _spectrum(model: nn.Module, matrix: Matrix) -> tuple[float, ...]:
    weight = model.get_submodule(matrix.layer).weight
    if not isinstance(weight, Tensor):
        raise TypeError(f"{matrix.parameter} is no tensor")
    short = weight.detach().cpu().flatten(1).double()
    short = short.mT if short.shape[0] > short.shape[1] else short
    squares = torch.linalg.eigvalsh(short @ short.mT).flip(0).clamp_min(0.0)
    values = squares.sqrt().tolist()
    last = len(values) - 1
    points = min(len(values), _POINTS)
    picked = [values[round(i * last / max(1, points - 1))] for i in range(points)]
    floor = 1e-7 * (picked[0] if picked else 0.0)
    return tuple(float(f"{value:.4g}") if value > floor else 0.0 for value in picked)


def _no_match(
    pattern: str, layers: Mapping[str, nn.Module], able: Mapping[str, nn.Module]
) -> ConfigError:
    named = [path for path in layers if fnmatchcase(path, pattern)]
    flag = f"--low-rank {pattern!r}"
    if not named:
        return ConfigError(
            f"{flag} matches no layer of the model",
            hint="`ramda inspect MODEL --spectra` lists the layers that can lose ranks",
        )
    kinds = sorted({type(layers[path]).__name__ for path in named})
    hint = f"for example --low-rank {next(iter(able))}" if able else "leave the flag out"
    return ConfigError(
        f"{flag} matches {', '.join(kinds[:4])}, and none of these can become two layers", hint=hint
    )
