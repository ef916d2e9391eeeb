"""What the kernels of all devices are given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from ramda_cli.optimizers.fused.roots import Secular

_GRADIENT_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


class Settings(NamedTuple):
    """Of one param_group in one step, on the host or on the device.

    Attributes:
        step_size: s_t.
        eps: added to the preconditioner.
        momentum: weight of the solution in the iterate.
        factor: multiplies w and d, where the param_group has another α.
    """

    step_size: float | Tensor
    eps: float | Tensor
    momentum: float | Tensor
    factor: float | Tensor


@dataclass(frozen=True, eq=False)
class Operand:
    """One parameter's tensors, all with the same shape and strides, and dense.

    Attributes:
        grad_sum: v, fp32.
        grad_sq_sum: u, fp32.
        anchor: x₀, fp32.
        iterate: x, fp32.
        parameter: the bf16 parameter that follows the iterate; none where it is the parameter.
        settings: number of its param_group.
    """

    grad_sum: Tensor
    grad_sq_sum: Tensor
    anchor: Tensor
    iterate: Tensor
    parameter: Tensor | None
    settings: int


def pointers(operands: Sequence[Operand]) -> npt.NDArray[np.int64]:
    """Return the table of the kernels: a row per operand, the columns of its gradient unset.

    The columns are gradient, v, u, x₀, x, parameter, the gradient's type, the param_group.
    """
    rows = []
    for each in operands:
        states = each.grad_sum, each.grad_sq_sum, each.anchor
        rows.append([0, *(x.data_ptr() for x in states), 0, 0, 0, each.settings])
    return np.array(rows, dtype=np.int64)


def point_(
    table: npt.NDArray[np.int64], operands: Sequence[Operand], gradients: Sequence[Tensor]
) -> None:
    """Fill in what may move from step to step: gradients, iterates and parameters."""
    table[:, 0] = [gradient.data_ptr() for gradient in gradients]
    table[:, 4] = [each.iterate.data_ptr() for each in operands]
    table[:, 5] = [_address(each.parameter) for each in operands]
    table[:, 6] = [_GRADIENT_TYPES[gradient.dtype] for gradient in gradients]


def _address(parameter: Tensor | None) -> int:
    """Return where a parameter of low precision is, negative for fp16; 0 where there is none."""
    if parameter is None:
        return 0
    address = parameter.data_ptr()
    return -address if parameter.dtype == torch.float16 else address


class Kernels(Protocol):
    """The passes over memory of one step, on some device.

    Attributes:
        max_corrections: how often the second pass is corrected at most.
        host_may_ask: whether looking at values costs nothing; if not, it is corrected so often.
    """

    max_corrections: int
    host_may_ask: bool

    def bind(
        self,
        operands: Sequence[Operand],
        gradients: Sequence[Tensor],
        settings: Sequence[Settings],
    ) -> None:
        """Say where the tensors of this step are, and with what settings."""

    def accumulate(self, ratios: Float[Tensor, " channels"]) -> Float[Tensor, "5 channels"]:
        """Add the gradients; return Σ w² and Σ w² d, and Σ p², Σ p² t and Σ p² t² at these L/r."""
        ...

    def first_ratios(
        self,
        problem: Secular,
        guess: Float[Tensor, " channels"],
        sums: Float[Tensor, "3 channels"],
    ) -> Float[Tensor, " channels"]:
        """Return `problem.first_ratios`."""
        ...

    def better_ratios(
        self,
        problem: Secular,
        ratios: Float[Tensor, " channels"],
        sums: Float[Tensor, "2 channels"],
    ) -> Float[Tensor, " channels"]:
        """Return `problem.better_ratios`."""
        ...

    def write(self, ratios: Float[Tensor, " channels"]) -> Float[Tensor, "2 channels"]:
        """Average the solution at these L/r into the iterates; return Σ p² and Σ p² t."""
        ...

    def correct(
        self, last: Float[Tensor, " channels"], ratios: Float[Tensor, " channels"]
    ) -> Float[Tensor, "2 channels"]:
        """Replace the solution at `last`, which was averaged in, by that at other L/r."""
        ...

    def multiply(self) -> Float[Tensor, " channels"]:
        """Return Σ g x."""
        ...
