"""What a run tells the outside while it works; the command line shows it, tests may ignore it."""

from collections.abc import Mapping
from typing import Protocol


class Observer(Protocol):
    """Receives the events of a run, in order.

    `values` are plain numbers. Names with a meaning everywhere: `loss`; `metric`, a share in
    [0, 1] such as top-1 accuracy; `group_sparsity`, the weighted share of zero groups;
    `low_rank_level`, the share of ranks that are gone;
    `macs_share`, MACs left as a share of dense; `lr`.
    """

    def stage(self, name: str, detail: str = "") -> None:
        """Enter a stage; the stage before it is done. A repeated name updates its detail."""
        ...

    def note(self, text: str) -> None:
        """Tell the user one sentence."""
        ...

    def train_start(self, steps: int, epochs: int, later: int = 0) -> None:
        """Begin training for so many steps; what follows in the run takes as long as `later`."""
        ...

    def train_step(self, step: int, values: Mapping[str, float]) -> None:
        """Report that `step` steps are done."""
        ...

    def validated(self, epoch: int, values: Mapping[str, float]) -> None:
        """Report the validation after `epoch` epochs; 0 is before training."""
        ...

    def train_end(self) -> None:
        """End training."""
        ...


class SilentObserver:
    """Observes and says nothing."""

    def stage(self, name: str, detail: str = "") -> None:
        """Ignore a stage."""

    def note(self, text: str) -> None:
        """Ignore a note."""

    def train_start(self, steps: int, epochs: int, later: int = 0) -> None:
        """Ignore the start of training."""

    def train_step(self, step: int, values: Mapping[str, float]) -> None:
        """Ignore a step."""

    def validated(self, epoch: int, values: Mapping[str, float]) -> None:
        """Ignore a validation."""

    def train_end(self) -> None:
        """Ignore the end of training."""
