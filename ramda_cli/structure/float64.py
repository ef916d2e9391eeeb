"""Run a model in float64 throughout, its own casts to lower precision included.

Many models compute norms, rotary angles or softmax in float32 whatever the precision of their
weights. Two models that agree to 1e-16 before such a cast may differ by 1e-7 after it, which would
hide whether they compute the same function.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

_NARROW = (torch.float32, torch.bfloat16, torch.float16)


@contextmanager
def float64_throughout() -> Iterator[None]:
    """Widen to float64 every tensor that a block makes, for a module that is in float64 already."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Widening():
            yield
    finally:
        torch.set_default_dtype(default)


class _Widening(TorchDispatchMode):
    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.ops.aten.view.dtype:  # reads the bits of one type as another
            return func(*args, **(kwargs or {}))
        widened = _widened_setting if func._schema.is_mutable else _widened
        args, kwargs = pytree.tree_map(widened, (args, kwargs or {}))
        if func is torch.ops.aten._grouped_mm.default:  # torch has no kernel for float64
            return _grouped_mm(*args, **kwargs)
        return func(*args, **kwargs)


def _widened(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return argument.double() if argument.dtype in _NARROW else argument
    return _widened_setting(argument)


def _widened_setting(argument: Any) -> Any:
    narrow = isinstance(argument, torch.dtype) and argument in _NARROW
    return torch.float64 if narrow else argument


def _grouped_mm(x: Tensor, weight: Tensor, offs: Tensor, bias: None = None, **_: Any) -> Tensor:
    """Multiply each run of rows, of which `offs` holds the ends, by the matrix of its own."""
    starts = [0, *offs.tolist()[:-1]]
    runs = zip(starts, offs.tolist(), weight, strict=True)
    return torch.cat([x[start:end] @ matrix for start, end, matrix in runs])
