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


def device_name(device: torch.device) -> str:
    """Return what the maker calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2] for line in lines if line.startswith("model name")), "")
    return " ".join(named.split()) or platform.processor() or platform.machine()
