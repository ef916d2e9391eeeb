"""SIGINT and SIGTERM: a run that trains finishes its step and keeps its state first."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ramda_cli.observer import Observer

_SIGNALS = signal.SIGINT, signal.SIGTERM


class Stop(KeyboardInterrupt):
    """The run was asked to stop, and has kept its state."""


class StopRequest:
    """Whether the run was asked to stop.

    Where it is not `patient`, and at a second signal, the process is interrupted at once.

    Attributes:
        patient: whether somebody looks at `asked` before long.
        asked: whether a signal came.
    """

    def __init__(self, observer: Observer) -> None:
        self.patient = False
        self.asked = False
        self._observer = observer

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        del frame
        if self.asked or not self.patient:
            raise KeyboardInterrupt
        self.asked = True
        name = signal.Signals(number).name
        self._observer.note(f"{name}: stopping after this step; once more stops at once")


@contextmanager
def stop_request(observer: Observer) -> Iterator[StopRequest]:
    """Take the signals over inside the block; only the main thread can."""
    request = StopRequest(observer)
    before: dict[signal.Signals, Callable[..., Any] | int | None] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, request.receive) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
