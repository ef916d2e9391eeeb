"""Which weights lose ranks, which channels stay for their sake, and what became of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import torch
from torch import nn

from ramda_cli.errors import ConfigError
from ramda_cli.report.document import MatrixEntry
from ramda_cli.structure import Structure
from ramda_cli.structure.groups import FixedChannels
from ramda_cli.structure.matrices import Matrix
from ramda_cli.structure.support import named_tensors
from ramda_cli.surgery.low_rank_layers import has_hooks, layers_of_rank, multiplied

_POINTS = 64
"""Singular values of a matrix that a report has; of more some are left out."""


def choose_matrices(
    model: nn.Module, patterns: Sequence[str], *, keep: Sequence[str] = ()
) -> tuple[Matrix, ...]:
    """Return the weights of the layers that match, in the model's order.

    A pattern takes of what it matches what can become two layers and is trained; an embedding is
    taken only where its name is given whole, as looking up a row of a product is slower.

    Args:
        model: left as it is.
        patterns: globs of paths.
        keep: globs of paths that are spared.

    Raises:
        ConfigError: a pattern matches nothing that can.
    """
    layers = {path: layer for path, layer in model.named_modules() if path}
    able = {
        path: layer
        for path, layer in layers_of_rank(model).items()
        if layer.weight.requires_grad
        and not has_hooks(layer)
        and not any(fnmatchcase(path, pattern) for pattern in keep)
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
    """Return the structure without the groups that a weight which loses ranks makes or reads.

    Fewer rows or columns would change which rank pays.
    """
    of_rank = {matrix.parameter for matrix in matrices}
    groups, fixed = [], []
    for group in structure.groups:
        shared = next((p.parameter for p in group.coupled if p.parameter in of_rank), None)
        if shared is None:
            groups.append(group)
        else:
            reason = f"ranks of {shared} go in place of channels"
            fixed.append(FixedChannels(group.name, group.channels, reason))
    return replace(structure, groups=tuple(groups), fixed=(*structure.fixed, *fixed))


def ranks_lost(
    matrices: Sequence[Matrix],
    ranks: Mapping[str, tuple[int, int]],
    two: Collection[str] | None = None,
) -> dict[str, range]:
    """Return for each matrix that becomes two which ranks go, as removed channels are told.

    Args:
        matrices: weights that may lose ranks.
        ranks: rank and full rank of each.
        two: paths of the layers that have become two, where that is known.
    """
    lost = {}
    for matrix in matrices:
        rank = max(1, ranks[matrix.parameter][0])
        pays = rank <= matrix.largest_paying_rank and rank < matrix.full_rank
        becomes_two = pays if two is None else matrix.layer in two
        if becomes_two:
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
            rank=max(1, ranks[matrix.parameter][0]),
            factorized=matrix.parameter not in dense,
            reason=dense.get(matrix.parameter),
            before=before[matrix.parameter],
            after=_spectrum(smaller, matrix),
        )
        for matrix in matrices
    )


def _matrix(path: str, layer: nn.Module) -> Matrix:
    weight = layer.get_parameter("weight")
    return Matrix(f"{path}.weight", weight.shape[0], weight[0].numel())


@torch.no_grad()
def _spectrum(model: nn.Module, matrix: Matrix) -> tuple[float, ...]:
    tensors = named_tensors(model)
    down, up = (tensors.get(f"{matrix.layer}.{name}.weight") for name in ("down", "up"))
    if down is None or up is None:
        if matrix.parameter not in tensors:
            return ()  # a graph leaves out what nothing uses
        weight = tensors[matrix.parameter]
    else:
        weight = multiplied(down, up, embedding=up.shape[1] != len(down))
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
