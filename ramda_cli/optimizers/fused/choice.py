"""Whether a step can be taken by kernels, and what they are given."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

from ramda_cli.optimizers.active import ActivePenalties
from ramda_cli.optimizers.fused import cpu
from ramda_cli.optimizers.fused.library import available
from ramda_cli.optimizers.fused.operands import Kernels, Operand
from ramda_cli.optimizers.fused.tiles import cut
from ramda_cli.optimizers.moving import Moving

# Types of parameters that follow a fp32 master copy, by what their device's kernels can round to.
_LOW = {"cpu": {torch.bfloat16}, "cuda": {torch.bfloat16, torch.float16}}


def why_not(parameters: Sequence[Moving], active: ActivePenalties) -> str | None:
    """Return why kernels cannot take this step; nothing if they can."""
    devices = {each.parameter.device for each in parameters}
    if len(devices) > 1:
        return "parameters are on several devices"
    device = next(iter(devices)).type
    if device not in _LOW:
        return f"there are no kernels for {device}"
    if active.index is not None and active.index.processes is not None:
        return "parameters are sharded"
    if active.any_idle:
        return "a penalty has a parameter without a gradient"
    for each in parameters:
        iterate = each.current
        if iterate.dtype != torch.float32:
            return f"a parameter is {iterate.dtype}"
        if each.parameter is not iterate and each.parameter.dtype not in _LOW[device]:
            return f"a parameter is {each.parameter.dtype}"
        like = each.state["anchor"]
        if iterate.stride() != like.stride() or each.parameter.stride() != like.stride():
            return "a parameter is not dense"
    if device == "cuda":
        return None if _has_triton() else "Triton is not installed"
    return None if available() else "the kernels cannot be compiled"


@lru_cache(maxsize=1)
def _has_triton() -> bool:
    return find_spec("triton") is not None


def kernels_for(parameters: Mapping[str, Moving], active: ActivePenalties) -> Kernels:
    """Return kernels for parameters in this order."""
    parts = dict(zip(active.members, active.parts, strict=True))
    members = [parts.get(name, each.current.numel()) for name, each in parameters.items()]
    channels = active.sizes.numel()
    if active.sizes.device.type == "cuda":
        # Not at the top: Triton is not on every machine.
        from ramda_cli.optimizers.fused import cuda

        return cuda.CudaKernels(cut(members, channels, cuda.LIMITS), channels, active.sizes.device)
    limits = cpu.limits_for(sum(each.current.numel() for each in parameters.values()))
    return cpu.CpuKernels(cut(members, channels, limits), channels)


def operand(each: Moving, settings: int) -> Operand:
    """Return a parameter's tensors, but for the gradient, as kernels want them."""
    state = each.state
    master = state.get("master")
    return Operand(
        state["grad_sum"],
        state["grad_sq_sum"],
        state["anchor"],
        each.parameter if master is None else master,
        None if master is None else each.parameter,
        settings,
    )


def laid_out_gradient(each: Moving) -> Tensor:
    """Return the gradient, laid out as its parameter's state is, in a type that kernels take."""
    gradient, like = each.gradient, each.state["anchor"]
    kept = {torch.float32, *_LOW[like.device.type]}
    dtype = gradient.dtype if gradient.dtype in kept else torch.float32
    if gradient.dtype == dtype and gradient.stride() == like.stride():
        return gradient
    return torch.empty_like(like, dtype=dtype).copy_(gradient)
