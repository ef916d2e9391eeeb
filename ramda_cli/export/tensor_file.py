"""Safetensors files that appear whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def write_tensors(
    tensors: Mapping[str, Tensor], path: Path, *, metadata: Mapping[str, str]
) -> None:
    """Write contiguous CPU copies of the tensors; names that share memory get a copy each.

    Raises:
        OSError: the file cannot be written.
        SafetensorError: the same, as the library reports it.
    """
    stored: dict[str, Tensor] = {}
    memory: set[int] = set()
    for name, tensor in tensors.items():
        whole = tensor.detach().cpu().contiguous()
        address = whole.untyped_storage().data_ptr()
        stored[name] = whole.clone() if address in memory else whole
        memory.add(address)
    partial = path.with_name(f"{path.name}.partial")
    try:
        # The library makes files that only their owner can read; this one follows the umask.
        partial.touch()
        mode = partial.stat().st_mode
        save_file(stored, partial, metadata=dict(metadata))
        partial.chmod(mode)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
