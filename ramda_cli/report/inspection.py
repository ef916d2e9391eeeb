"""What `ramda inspect` finds, as a JSON document with a stable shape and key order."""

from dataclasses import dataclass
from typing import Literal

from ramda_cli.report.document import SCHEMA, FixedEntry, ModelEntry


@dataclass(frozen=True, kw_only=True)
class DenseSize:
    """How large the model is; `channels` counts those of every group and fixed set."""

    params: int
    macs: int
    channels: int


@dataclass(frozen=True, kw_only=True)
class CandidateEntry:
    """A dependency group that may lose channels.

    Attributes:
        params, macs: what would go with all of its channels.
        unit: what one channel is: `channel`, or for example `head of 64`.
        penalized, coupled: parameters the regularizer sees, and those removed along.
    """

    name: str
    channels: int
    params: int
    macs: int
    unit: str
    penalized: tuple[str, ...]
    coupled: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Removable:
    """What all groups together put at stake, as shares of dense, and their channels."""

    params_share: float
    macs_share: float
    channels: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What removing half of every group's channels gave, in a trial.

    Attributes:
        layout: `native`, the model's own class; or `graph`, the model as a graph of operations,
            which computes and trains, but without dropout and the class's own methods.
        submodules: classes within a native model that run as graphs, with how many of each.
        max_relative_difference: of the outputs in float64.
    """

    layout: Literal["native", "graph"]
    submodules: dict[str, int]
    max_relative_difference: float


@dataclass(frozen=True, kw_only=True)
class RankEntry:
    """What keeps a share of a weight's energy, the sum of its squared singular values.

    Attributes:
        energy: the share.
        rank: how many singular values have it.
        size: parameters of two layers of that rank, and MACs, as a share of the one layer's.
    """

    energy: float
    rank: int
    size: float


@dataclass(frozen=True, kw_only=True)
class SpectrumEntry:
    """The singular values of a weight, as the matrix of its first dimension by all others.

    Attributes:
        name: of the parameter.
        rows, cols: of the matrix.
        largest_paying_rank: up to which two layers are smaller than the one.
        ranks: for several shares of the energy.
        values: the singular values, largest first, to four digits.
    """

    name: str
    rows: int
    cols: int
    largest_paying_rank: int
    ranks: tuple[RankEntry, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What can be removed from a model and what cannot.

    Attributes:
        modules: those with parameters, in the model's order.
        outcome: of a trial removal; None where nothing can be removed.
        spectra: of the weights that could become two, where they were asked for.
    """

    schema: Literal[1] = SCHEMA
    model: ModelEntry
    size: DenseSize
    groups: tuple[CandidateEntry, ...]
    fixed: tuple[FixedEntry, ...]
    removable: Removable
    modules: tuple[str, ...] = ()
    outcome: Outcome | None = None
    spectra: tuple[SpectrumEntry, ...] | None = None
    notes: tuple[str, ...] = ()
