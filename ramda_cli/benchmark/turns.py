"""Taking times in turns: A B, then B A, and so on, until the time is spent."""

import math
import time
from collections.abc import Callable, Sequence

Arm = Callable[[], object]
Turn = list[float]
"""The seconds of every call in it."""

_TURN_SECONDS = 0.1
_MOST_CALLS = 50
_WARM_UP_SHARE = 0.15
_LEAST_ROUNDS = 6


def take_turns(
    arms: Sequence[Arm], *, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> list[list[Turn]]:
    """Call every arm in each round, in turns first, and return the turns of each arm.

    A turn is so many calls that the slowest arm fills 0.1 s, so that a call finds the caches as its
    own model left them. The warm-up takes 15 % of the time, one round at least; six rounds are
    measured at least, and always an even number, so that each arm goes first equally often.

    Args:
        arms: each runs one batch to its end.
        seconds: for everything.
        clock: in seconds.
    """
    started = clock()
    slowest = _warm_up(arms, until=started + _WARM_UP_SHARE * seconds, clock=clock)
    calls = min(_MOST_CALLS, max(1, math.ceil(_TURN_SECONDS / slowest)))
    turns: list[list[Turn]] = [[] for _ in arms]
    order = list(zip(arms, turns, strict=True))
    rounds = 0
    while rounds < _LEAST_ROUNDS or rounds % 2 or clock() - started < seconds:
        for arm, own in order:
            own.append([_timed(arm, clock) for _ in range(calls)])
        order.reverse()
        rounds += 1
    return turns


def _warm_up(arms: Sequence[Arm], *, until: float, clock: Callable[[], float]) -> float:
    """Return the seconds of the slowest arm's fastest call."""
    times: list[Turn] = [[_timed(arm, clock)] for arm in arms]
    while clock() < until:
        for arm, own in zip(arms, times, strict=True):
            own.append(_timed(arm, clock))
    return max(1e-6, *map(min, times))


def _timed(arm: Arm, clock: Callable[[], float]) -> float:
    started = clock()
    arm()
    return clock() - started
