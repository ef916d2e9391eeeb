"""Checking a pruned model again, on this machine: no data, no base weights, no network."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ramda_cli.errors import FileFormatError
from ramda_cli.pipeline.probing import (
    Probed,
    check_model,
    check_onnx,
    check_torch_export,
    open_probed,
)
from ramda_cli.pipeline.workspace import INCOMPLETE
from ramda_cli.report.document import FileEntry
from ramda_cli.report.formatting import difference, size_bytes
from ramda_cli.report.gate import Verdict
from ramda_cli.report.plain import parse_report
from ramda_cli.verification import Check

_MODEL = "model.safetensors"
_REPORT = "report.json"
_MOST_REPORT_BYTES = 100_000_000


def verify(path: Path, *, trust_pt2: bool = False) -> dict[str, object]:
    """Check a file, or every file of an output directory, against the probe and the report.

    Args:
        path: a model.safetensors, or the directory that holds one.
        trust_pt2: whether to load the directory's `.pt2` files, which may unpickle.

    Returns:
        `passed`, `checks` (name, passed, text) and `notes` on what was not checked.

    Raises:
        FileFormatError: a file is damaged, there is no probe, or the run has not finished.
        ModelError: the architecture is not known to this installation.
        OutputError: ONNX Runtime does not take a file.
    """
    if (path / INCOMPLETE).exists():
        raise FileFormatError(
            f"{path} holds a run that has not finished", hint="run it again, with --overwrite"
        )
    probed = open_probed(path / _MODEL if path.is_dir() else path)
    checks = [*check_model(probed), *_check_exports(probed, path, trust_pt2=trust_pt2)]
    verdicts = [
        Verdict("header", _header(probed), True),
        *(_hashes(path) if (path / _REPORT).is_file() else ()),
        *map(verdict_of, checks),
    ]
    return {
        "file": str(probed.path),
        "passed": all(verdict.passed for verdict in verdicts),
        "checks": [asdict(verdict) for verdict in verdicts],
        "notes": _unchecked(path, trust_pt2=trust_pt2),
    }


def _check_exports(probed: Probed, directory: Path, *, trust_pt2: bool) -> Iterator[Check]:
    """Compare whatever exports are in a directory."""
    for file in sorted(directory.glob("*.onnx")):
        yield from check_onnx(probed, file)
    for file in sorted(directory.glob("*.pt2")) if trust_pt2 else ():
        yield from check_torch_export(probed, file)


def _unchecked(path: Path, *, trust_pt2: bool) -> list[str]:
    """Return sentences on what was not looked at."""
    if not path.is_dir():
        return ["one file alone was checked: give its directory to check what is beside it"]
    notes = []
    if not (path / _REPORT).is_file():
        notes.append(f"{path} has no {_REPORT}, so no hash was compared")
    if not trust_pt2:
        notes += [
            f"{file.name} was not loaded, which may unpickle: --trust-pt2 is for your own files"
            for file in sorted(path.glob("*.pt2"))
        ]
    notes += [
        f"{file.parent.name}, a directory of another library, was not loaded"
        for file in sorted(path.glob("*/config.json"))
    ]
    return notes


def _header(probed: Probed) -> str:
    tensors = sum(tensor.numel() for tensor in probed.model.state_dict().values())
    return f"{probed.document['layout']} layout, {tensors:,} elements, a probe"


def verdict_of(check: Check) -> Verdict:
    """Return a comparison as a line of a gate."""
    name = f"{check.name} in {check.dtype}"
    if check.max_abs_difference != check.max_abs_difference:
        return Verdict(name, "outputs of other shapes, or not finite", False)
    text = (
        f"differs by {difference(check.max_abs_difference)}; at most {difference(check.tolerance)}"
    )
    return Verdict(name, text, check.passed)


def _hashes(directory: Path) -> Iterator[Verdict]:
    """Compare the files that the report lists."""
    for entry in _listed(directory / _REPORT):
        if entry.sha256 is not None:
            passed, text = _compare(directory / entry.name, entry)
            yield Verdict(f"{entry.name} SHA-256", text, passed)


def _compare(path: Path, entry: FileEntry) -> tuple[bool, str]:
    if not path.is_file():
        return False, "is not here"
    found = path.stat().st_size
    if found != entry.bytes:
        return False, f"has {found:,} bytes, not {entry.bytes:,}"
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return False, f"cannot be read: {error.strerror}"
    if digest != entry.sha256:
        return False, f"is {digest[:12]}..., not {str(entry.sha256)[:12]}..."
    return True, f"{digest[:12]}..., {size_bytes(found)}"


def _listed(path: Path) -> tuple[FileEntry, ...]:
    """Return the files that an untrusted report lists: names in its own directory only."""
    try:
        if path.stat().st_size > _MOST_REPORT_BYTES:
            raise ValueError("it is too large")
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}",
            hint=f"copy it again; without {_REPORT} the hashes are not compared",
        ) from error
    files = parse_report(document).files
    for entry in files:
        if Path(entry.name).name != entry.name:
            raise FileFormatError(
                f"{path} lists {entry.name!r}, which is not a file beside it", hint="copy it again"
            )
    return files
