"""A pruned model in other formats, each written, read back and compared before it is kept."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ramda_cli.errors import EquivalenceError, FileFormatError, OutputError
from ramda_cli.pipeline.formats import WRITERS, ExportSettings
from ramda_cli.pipeline.probing import Probed, check_model, open_probed
from ramda_cli.pipeline.verify import verdict_of
from ramda_cli.verification import Check


def export(
    path: Path, output: Path, settings: ExportSettings, *, overwrite: bool = False
) -> dict[str, object]:
    """Write a pruned model in another format, for which neither data nor network is needed.

    Args:
        path: a file that `save` wrote.
        output: the file to write, for timm and hf the directory.
        settings: the format and its options.
        overwrite: whether to replace what is there.

    Returns:
        `file`, `format`, `bytes`, `loads_with` and `checks` (name, passed, text).

    Raises:
        EquivalenceError: what was written computes something else; it is not kept.
        FileFormatError: the model's own file is damaged, or holds no probe.
        ModelError: timm or transformers does not load such a model by itself.
        OutputError: the output cannot be written, or is there already.
    """
    _check_free(path, output, settings, overwrite=overwrite)
    probed = open_probed(path)
    _check_sound(probed)
    probed.model.float()
    with _scratch(output) as scratch:
        try:
            exported = WRITERS[settings.format](probed, scratch / output.name, settings)
        except OutputError as error:
            message = str(error).replace(str(scratch), str(output.parent))
            raise OutputError(message, hint="choose another --format or other options") from error
        _require(exported.checks)
        size = _move(scratch, output.parent)
    return {
        "file": str(output),
        "format": settings.format,
        "bytes": size,
        "loads_with": exported.loads_with.format(path=output),
        "checks": [asdict(verdict_of(check)) for check in exported.checks],
    }


def _check_free(path: Path, output: Path, settings: ExportSettings, *, overwrite: bool) -> None:
    """Refuse an output that is there already, cannot be made, or is the model itself."""
    is_directory = settings.format in ("timm", "hf")
    hint = f"give the {'directory' if is_directory else 'file'} to write with -o"
    if output.exists() and output.is_dir() != is_directory:
        what = "directory" if output.is_dir() else "file"
        raise OutputError(f"output {output} is a {what}", hint=hint)
    if not output.parent.is_dir():
        raise OutputError(f"output {output} has no directory {output.parent}", hint=hint)
    if path.resolve() in (output.resolve(), (output / path.name).resolve()):
        raise OutputError(f"output {output} would replace the model itself", hint=hint)
    if overwrite or not output.exists() or (is_directory and not any(output.iterdir())):
        return
    raise OutputError(
        f"output {output} is there already",
        hint="choose another with -o, or replace it with --overwrite",
    )


def _check_sound(probed: Probed) -> None:
    wide, _ = check_model(probed)
    if not wide.passed:
        raise FileFormatError(
            f"{probed.path} does not give the outputs that it holds: {verdict_of(wide).text}",
            hint="copy it again; `ramda verify` shows what changed",
        )


def _require(checks: tuple[Check, ...]) -> None:
    for check in checks:
        if not check.passed:
            verdict = verdict_of(check)
            half = check.dtype == "float16"
            raise EquivalenceError(
                f"{verdict.name}: {verdict.text}",
                hint="export it without --fp16" if half else "nothing was kept; try another format",
            )


@contextlib.contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """Yield a directory on the same disk, which is gone afterwards with what is still in it."""
    try:
        with tempfile.TemporaryDirectory(prefix=".ramda-", dir=output.parent) as directory:
            yield Path(directory)
    except OSError as error:
        raise OutputError(
            f"cannot write {output}: {error.strerror or error}",
            hint="free some space, or choose another place with -o",
        ) from error


def _move(scratch: Path, target: Path) -> int:
    """Move every file to the same place under another directory; return their size in bytes."""
    size = 0
    for file in [file for file in scratch.rglob("*") if file.is_file()]:
        place = target / file.relative_to(scratch)
        place.parent.mkdir(exist_ok=True)
        size += file.stat().st_size
        os.replace(file, place)
    return size
