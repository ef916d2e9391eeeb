"""A parameter that takes part in a step."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Moving:
    """A parameter that has a gradient in this step.

    Attributes:
        parameter: the parameter, or the rows of it that this process holds.
        gradient: of these.
        state: its tensors in the optimizer's state.
        param_group: its settings.
    """

    parameter: Tensor
    gradient: Tensor
    state: dict[str, Tensor]
    param_group: dict[str, Any]

    @property
    def current(self) -> Tensor:
        """The iterate at full precision."""
        return self.state.get("master", self.parameter)
