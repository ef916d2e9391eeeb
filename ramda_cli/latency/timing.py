"""The time of models, and of each operator in them, in turns."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ramda_cli.surgery.program import GraphModel

_FEWEST_ROUNDS = 5
_MOST_ROUNDS = 50
_SECONDS = 20.0
"""After as many rounds as fit in it there are enough, if there are the fewest."""


@dataclass(frozen=True, eq=False)
class Timed:
    """Nanoseconds of one model: the least of several runs, which other work disturbs the least.

    Attributes:
        whole: of a call.
        operators: of each operator, by the name of its result.
    """

    whole: float
    operators: dict[str, float]


def time_models(
    models: Sequence[GraphModel],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    device: torch.device,
) -> list[Timed]:
    """Time each model as a whole and operator by operator, one after the other in rounds.

    Args:
        models: on `device`.
        args: what they are called with by position.
        kwargs: by keyword.
        device: is waited for before each reading of the clock.
    """
    whole = [float("inf")] * len(models)
    operators: list[dict[str, float]] = [{} for _ in models]
    for model in models:
        model(*args, **kwargs)
    ends = time.monotonic() + _SECONDS
    for round_ in range(_MOST_ROUNDS):
        if round_ >= _FEWEST_ROUNDS and time.monotonic() > ends:
            break
        for number, model in enumerate(models):
            started = _now(device)
            model(*args, **kwargs)
            whole[number] = min(whole[number], _now(device) - started)
            for name, taken in _by_operator(model, args, kwargs, device).items():
                known = operators[number].get(name, float("inf"))
                operators[number][name] = min(known, taken)
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
