"""Turns on a clock that moves only when a model is called."""

from collections.abc import Callable
from itertools import groupby

import pytest

from ramda_cli.benchmark.statistics import paired_ratio
from ramda_cli.benchmark.turns import take_turns


class Machine:
    """A clock, and models that take their time on it; `drift` slows the machine with every call."""

    def __init__(self, *, drift: float = 0.0) -> None:
        self.now = 100.0
        self.calls: list[str] = []
        self._drift = drift

    def model(self, name: str, seconds: float) -> Callable[[], None]:
        def call() -> None:
            self.calls.append(name)
            self.now += seconds * (1 + self._drift * len(self.calls))

        return call

    def clock(self) -> float:
        return self.now


def test_each_arm_goes_first_equally_often():
    machine = Machine()
    arms = [machine.model("a", 1.0), machine.model("b", 0.5)]
    turns = take_turns(arms, seconds=10.0, clock=machine.clock)
    assert [len(own) for own in turns] == [6, 6]
    assert "".join(machine.calls) == "ab" + "abba" * 3
    assert turns == [[[1.0]] * 6, [[0.5]] * 6]


def test_the_time_is_spent_and_not_much_more():
    machine = Machine()
    arms = [machine.model("a", 0.2), machine.model("b", 0.1)]
    turns = take_turns(arms, seconds=30.0, clock=machine.clock)
    assert 30.0 <= machine.now - 100.0 < 30.0 + 2 * 0.3
    warm_up = len(machine.calls) - sum(len(own) for own in turns)
    assert warm_up * 0.15 == pytest.approx(0.15 * 30.0, abs=0.3)
    assert len(turns[0]) % 2 == 0


def test_a_slow_model_still_has_its_rounds():
    machine = Machine()
    turns = take_turns([machine.model("a", 60.0)], seconds=1.0, clock=machine.clock)
    assert len(turns[0]) == 6


@pytest.mark.parametrize(("seconds", "calls"), [(0.2, 1), (0.01, 10), (0.0001, 50), (0.0, 50)])
def test_a_turn_fills_its_time(seconds: float, calls: int):
    machine = Machine()
    arms = [machine.model("slowest", seconds), machine.model("other", seconds / 3)]
    turns = take_turns(arms, seconds=0.0, clock=machine.clock)
    assert {len(turn) for own in turns for turn in own} == {calls}


def test_calls_of_a_turn_follow_one_another():
    machine = Machine()
    arms = [machine.model("a", 0.01), machine.model("b", 0.002)]
    take_turns(arms, seconds=2.0, clock=machine.clock)
    lengths = [len([*run]) for _, run in groupby(machine.calls)]
    assert set(lengths[-10:-1]) == {20}  # two turns of ten where the order turns round


def test_a_machine_that_gets_slower_does_not_change_the_ratio():
    machine = Machine(drift=0.01)
    arms = [machine.model("a", 0.2), machine.model("b", 0.1)]
    turns = take_turns(arms, seconds=60.0, clock=machine.clock)
    assert paired_ratio(*turns).median == pytest.approx(2.0, rel=0.01)
