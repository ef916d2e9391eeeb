"""The time of models, and of each operator in them, in turns."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ramda_cli.surgery.program import GraphModel

_FEWEST_ROUNDS = 5
_MOST_ROUNDS = 50
_SECONDS = 20.0
"""After as many rounds as fit in it there are enough, if there are the fewest."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model to time.

    Attributes:
        model: whose calls are timed.
        graph: the same computation, operator by operator.
    """

    model: nn.Module
    graph: GraphModel


@dataclass(frozen=True, eq=False)
class Timed:
    """Nanoseconds of one model: the least of several runs, which other work disturbs the least.

    A run finds the caches as an earlier one of the same model left them, as in use.

    Attributes:
        whole: of a call.
        operators: of each operator, by the name of its result.
    """

    whole: float
    operators: dict[str, float]


def time_models(
    candidates: Sequence[Candidate],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    device: torch.device,
) -> list[Timed]:
    """Time each model as a whole and operator by operator, one after the other in rounds.

    Args:
        candidates: on `device`.
        args: what they are called with by position.
        kwargs: by keyword.
        device: is waited for before each reading of the clock.
    """
    whole = [float("inf")] * len(candidates)
    operators: list[dict[str, float]] = [{} for _ in candidates]
    ends = time.monotonic() + _SECONDS
    for round_ in range(_MOST_ROUNDS):
        if round_ >= _FEWEST_ROUNDS and time.monotonic() > ends:
            break
        for number, each in enumerate(candidates):
            each.graph(*args, **kwargs)  # until then the caches hold another model's weights
            for name, taken in _by_operator(each.graph, args, kwargs, device).items():
                known = operators[number].get(name, float("inf"))
                operators[number][name] = min(known, taken)
            each.model(*args, **kwargs)
            started = _now(device)
            each.model(*args, **kwargs)
            whole[number] = min(whole[number], _now(device) - started)
    return [Timed(*each) for each in zip(whole, operators, strict=True)]


def _by_operator(
    model: GraphModel, args: Sequence[Any], kwargs: Mapping[str, Any], device: torch.device
) -> dict[str, float]:
    taken: dict[str, float] = {}
    started = _now(device)

    def finished(name: str) -> None:
        nonlocal started
        now = _now(device)
        taken[name] = now - started
        started = _now(device)

    model.run(args, kwargs, after=finished)
    return taken


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return float(time.perf_counter_ns())
