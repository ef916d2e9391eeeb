"""Whether a step can be taken by kernels, and what they are given."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ramda_cli.optimizers.active import ActivePenalties
from ramda_cli.optimizers.fused.cpu import CpuKernels
from ramda_cli.optimizers.fused.library import available
from ramda_cli.optimizers.fused.operands import Kernels, Operand
from ramda_cli.optimizers.fused.tiles import cut
from ramda_cli.optimizers.moving import Moving

_LOW = {torch.bfloat16}


def why_not(parameters: Sequence[Moving], active: ActivePenalties) -> str | None:
    """Return why kernels cannot take this step; nothing if they can."""
    devices = {each.parameter.device for each in parameters}
    if len(devices) > 1:
        return "parameters are on several devices"
    if next(iter(devices)).type != "cpu":
        return f"there are no kernels for {next(iter(devices)).type}"
    if active.any_idle:
        return "a penalty has a parameter without a gradient"
    for each in parameters:
        iterate = each.current
        if iterate.dtype != torch.float32:
            return f"a parameter is {iterate.dtype}"
        if each.parameter is not iterate and each.parameter.dtype not in _LOW:
            return f"a parameter is {each.parameter.dtype}"
        like = each.state["anchor"]
        if iterate.stride() != like.stride() or each.parameter.stride() != like.stride():
            return "a parameter is not dense"
    return None if available() else "the kernels cannot be compiled"


def kernels_for(parameters: Mapping[str, Moving], active: ActivePenalties) -> Kernels:
    """Return kernels for parameters in this order."""
    parts = dict(zip(active.members, active.parts, strict=True))
    members = [parts.get(name, each.current.numel()) for name, each in parameters.items()]
    channels = active.sizes.numel()
    return CpuKernels(cut(members, channels), channels)


def operand(each: Moving, settings: int) -> Operand:
    """Return a parameter's tensors as kernels want them."""
    state = each.state
    master = state.get("master")
    return Operand(
        _gradient(each.gradient, state["anchor"]),
        state["grad_sum"],
        state["grad_sq_sum"],
        state["anchor"],
        each.parameter if master is None else master,
        None if master is None else each.parameter,
        settings,
    )


def _gradient(gradient: Tensor, like: Tensor) -> Tensor:
    """Lay out a gradient as its parameter's state is."""
    dtype = gradient.dtype if gradient.dtype == torch.bfloat16 else torch.float32
    if gradient.dtype == dtype and gradient.stride() == like.stride():
        return gradient
    return torch.empty_like(like, dtype=dtype).copy_(gradient)
