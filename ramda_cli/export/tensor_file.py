"""Safetensors files that appear whole or not at all."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

_LENGTH_BYTES = 8


def replace_durably(partial: Path, path: Path) -> None:
    """Give a written file its name, such that a power cut leaves the old file or the new one.

    Raises:
        OSError: it cannot be written.
    """
    _sync(partial)
    os.replace(partial, path)
    _sync(path.parent)


def _put_metadata_in_order(path: Path) -> None:
    """Sort the header's metadata, which the library writes in an order of chance.

    The same tensors and metadata then give the same file, byte by byte.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > length:
            raise ValueError(f"the header of {path} cannot be put in order")
        file.seek(_LENGTH_BYTES)
        file.write(text.ljust(length))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
        partial.unlink(missing_ok=True)  # a link would lead elsewhere
        partial.touch()
        mode = partial.stat().st_mode
        save_file(stored, partial, metadata=dict(metadata))
        _put_metadata_in_order(partial)
        partial.chmod(mode)
        replace_durably(partial, path)
    finally:
        partial.unlink(missing_ok=True)
