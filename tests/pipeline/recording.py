"""An observer that keeps what a run says."""

from ramda_cli.observer import SilentObserver


class Recorder(SilentObserver):
    """Keeps stages and notes."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []

    def stage(self, name: str, detail: str = "") -> None:
        del detail
        self.stages.append(name)

    def note(self, text: str) -> None:
        self.notes.append(text)
