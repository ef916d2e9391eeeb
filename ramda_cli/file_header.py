"""The report inside `model.safetensors`, read from the header alone.

A safetensors file is 8 bytes of header length (little-endian), a JSON header, and the tensors.
The file is untrusted: every size is checked before it is used, and nothing is executed.
"""

import json
from pathlib import Path
from typing import Any, BinaryIO, Final

from ramda_cli.errors import FileFormatError

FORMAT: Final = "1"
_LENGTH_BYTES: Final = 8
_MAX_HEADER_BYTES: Final = 100_000_000  # the limit of the safetensors format itself


def read_header_report(path: Path) -> dict[str, Any]:
    """Return the report document of a file that `ramda prune` wrote.

    Raises:
        FileFormatError: as `read_header`, or if it holds no report.
    """
    report = read_header(path).get("report")
    if not isinstance(report, dict):
        raise FileFormatError(
            f"{path} holds no report", hint="write it again with `ramda prune MODEL --data DATA`"
        )
    return report


def read_header(path: Path) -> dict[str, Any]:
    """Return everything RAMDA stored in the header of a safetensors file.

    Raises:
        FileFormatError: if the file is missing, truncated, not safetensors, of another
            format version, or not written by RAMDA.
    """
    try:
        with path.open("rb") as file:
            header = _parse_header(path, file)
    except OSError as error:
        raise FileFormatError(
            f"{path} cannot be read: {error.strerror}",
            hint="give the model.safetensors that `ramda prune` wrote, or its directory",
        ) from error
    metadata = header.get("__metadata__")
    version = metadata.get("ramda_format") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or version is None:
        raise FileFormatError(
            f"{path} was not written by ramda",
            hint="write one with `ramda prune MODEL --data DATA`",
        )
    if version != FORMAT:
        raise FileFormatError(
            f"{path} has format {version}; this version reads {FORMAT}",
            hint="update with `pip install --upgrade ramda-cli`",
        )
    return _json_object(path, metadata.get("ramda"))


def _parse_header(path: Path, file: BinaryIO) -> dict[str, Any]:
    file_bytes = path.stat().st_size
    prefix = file.read(_LENGTH_BYTES)
    length = int.from_bytes(prefix, "little")
    # The header starts with a brace: anything else is another kind of file, not a short one.
    if len(prefix) < _LENGTH_BYTES or length > _MAX_HEADER_BYTES or file.read(1) != b"{":
        raise FileFormatError(
            f"{path} is not a safetensors file",
            hint="give the model.safetensors that `ramda prune` wrote",
        )
    end_of_header = _LENGTH_BYTES + length
    if end_of_header > file_bytes:
        raise _truncated(path, file_bytes, end_of_header)
    file.seek(_LENGTH_BYTES)
    header = _json_object(path, file.read(length))
    end = end_of_header + max((_end_of(path, header, name) for name in header), default=0)
    if end > file_bytes:
        raise _truncated(path, file_bytes, end)
    return header


def _end_of(path: Path, header: dict[str, Any], name: str) -> int:
    """Return where a tensor ends in the data; 0 for the metadata."""
    if name == "__metadata__":
        return 0
    entry = header[name]
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    match offsets:
        case [int(), int() as end]:
            return end
        case _:
            raise _damaged(path)


def _json_object(path: Path, text: object) -> dict[str, Any]:
    if not isinstance(text, str | bytes):
        raise _damaged(path)
    try:
        value = json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise _damaged(path) from error
    if not isinstance(value, dict):
        raise _damaged(path)
    return value


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _damaged(path: Path) -> FileFormatError:
    return FileFormatError(
        f"{path} has a damaged header", hint="copy it again, or write it again with `ramda prune`"
    )


def _truncated(path: Path, found: int, expected: int) -> FileFormatError:
    return FileFormatError(
        f"{path} is truncated: {found:,} bytes of at least {expected:,}",
        hint="copy it again, or write it again with `ramda prune`",
    )
