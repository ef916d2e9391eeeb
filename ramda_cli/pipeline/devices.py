"""Where to compute."""

import platform
from pathlib import Path

import torch

from ramda_cli.errors import TrainingError


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device by name; `auto` takes CUDA where there is one.

    Args:
        name: of the settings.
        local_rank: number of this process on its machine: `auto` and `cuda` take that device.

    Raises:
        TrainingError: CUDA is asked for and not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if name == "cuda" and local_rank:
        device = torch.device("cuda", local_rank)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise TrainingError(
            f"device {name} is not available: torch sees {torch.cuda.device_count()} CUDA devices",
            hint="choose --device cpu, or check CUDA_VISIBLE_DEVICES and the driver",
        )
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether a device computes in bfloat16 itself; a CPU without is slower in it by far."""
    if device.type != "cpu":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = _cpu_line("flags").split()
    return not flags or any(name in flags for name in ("avx512_bf16", "amx_bf16"))


def device_name(device: torch.device) -> str:
    """Return what the maker calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    named = _cpu_line("model name")
    return " ".join(named.split()) or platform.processor() or platform.machine()


def _cpu_line(start: str) -> str:
    """Return what Linux says of the first processor; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2] for line in lines if line.startswith(start)), "")
