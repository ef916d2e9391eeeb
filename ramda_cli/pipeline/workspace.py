"""The output directory: free or not, finished or not."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from ramda_cli.errors import OutputError
from ramda_cli.export import State, replace_durably, write_state, write_tensors
from ramda_cli.report.document import FileEntry

INCOMPLETE = "INCOMPLETE"
_RESULTS = ("model.safetensors", "model.onnx", "model.onnx.data")
_REPORT = "report.json"
_FILES = (
    *_RESULTS, _REPORT, "report.html", "README.md", "metrics.jsonl", "config.yaml",
    # Of transformers: the configuration and the tokenizer.
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "vocab.txt",
    "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
LOGS = ("run.log", *(f"run.log.{number}" for number in range(1, 4)))
"""Newest first."""
_KEPT = "metrics.jsonl", "config.yaml"
_CHECKPOINTS = "checkpoints"
STATE, DECIDED = "state", "decided"
"""Checkpoints: where training stands, and where it stood when the zero set was final."""


@dataclass(frozen=True)
class Workspace:
    """An output directory.

    A file named INCOMPLETE stands in it from the first write until the run has succeeded, so that
    what an interrupted or failed run leaves is never taken for a result.

    Attributes:
        directory: of the run.
        writes: whether this process is the one that does.
    """

    directory: Path
    writes: bool = True

    def check_free(self, *, overwrite: bool) -> None:
        """Refuse a directory with files in it, unless they are an earlier run's to be replaced.

        Raises:
            OutputError: it is not empty, or not a directory.
        """
        try:
            if not self.directory.exists():
                return
            occupied = any(self.directory.iterdir())
        except NotADirectoryError as error:
            raise OutputError(
                f"{self.directory} is a file", hint="give a directory with -o"
            ) from error
        except OSError as error:
            raise _unwritable(self.directory, error) from error
        if occupied and not overwrite:
            raise OutputError(
                f"output directory {self.directory} is not empty",
                hint="choose another with -o, or replace an earlier run's files with --overwrite",
            )
        # A run has one of these from its first write on.
        if occupied and not any((self.directory / n).exists() for n in (INCOMPLETE, _REPORT)):
            raise OutputError(
                f"output directory {self.directory} holds files, and no earlier run",
                hint="choose another with -o; --overwrite replaces nothing but an earlier run",
            )

    def start(self) -> None:
        """Create the directory, take an earlier run's files away and mark it as incomplete."""
        if not self.writes:
            return
        with self.writing(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            (self.directory / INCOMPLETE).unlink(missing_ok=True)
            (self.directory / INCOMPLETE).write_text(
                "This run has not finished: nothing in this directory is a result.\n"
            )
            for name in (*_FILES, *LOGS):
                (self.directory / name).unlink(missing_ok=True)
            checkpoints = self.directory / _CHECKPOINTS
            if checkpoints.is_symlink():
                checkpoints.unlink()
            shutil.rmtree(checkpoints, ignore_errors=True)
            self._sweep()

    def go_on(self) -> None:
        """Keep an unfinished run's log and checkpoints, and drop what else it had written."""
        if not self.writes:
            return
        for name in (*_KEPT, *LOGS, _CHECKPOINTS):
            self._require_own(self.directory / name)
        with self.writing(self.directory):
            for name in _FILES:
                if name not in _KEPT:
                    (self.directory / name).unlink(missing_ok=True)
            self._sweep()

    def _sweep(self) -> None:
        for partial in self.directory.rglob("*.partial"):
            real = partial.is_dir() and not partial.is_symlink()
            shutil.rmtree(partial) if real else partial.unlink(missing_ok=True)

    @staticmethod
    def _require_own(path: Path) -> None:
        """Refuse what would be written to, or believed, elsewhere."""
        if path.is_symlink():
            raise OutputError(
                f"{path} is a link, and no run makes one", hint="take it away, or choose another -o"
            )

    @property
    def unfinished(self) -> bool:
        """Whether a run began here that has not succeeded."""
        return (self.directory / INCOMPLETE).is_file()

    @property
    def finished(self) -> bool:
        """Whether the directory holds a result."""
        return (self.directory / _REPORT).is_file() and not self.unfinished

    def finish(self) -> None:
        """Take the mark away: everything is written and proven. There is nothing to resume."""
        with self.writing(self.directory):
            for name in (STATE, DECIDED):
                (self.directory / _CHECKPOINTS / f"{name}.safetensors").unlink(missing_ok=True)
            (self.directory / INCOMPLETE).unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """Return the path of a file in the directory."""
        return self.directory / name

    def write_text(self, name: str, text: str) -> None:
        """Write a file whole or not at all."""
        if not self.writes:
            return
        partial = self.directory / f"{name}.partial"
        with self.writing(self.directory / name):
            partial.unlink(missing_ok=True)
            partial.write_text(text, encoding="utf-8")
            replace_durably(partial, self.directory / name)

    def append_line(self, name: str, values: Mapping[str, Any]) -> None:
        """Append one JSON document to a file of lines."""
        if not self.writes:
            return
        path = self.directory / name
        with self.writing(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def checkpoint(self, name: str) -> Path:
        """Return the path of a file under `checkpoints/`, a directory that then exists."""
        path = self.directory / _CHECKPOINTS / f"{name}.safetensors"
        if self.writes:
            with self.writing(path):
                path.parent.mkdir(exist_ok=True)
        return path

    def save_state(self, state: State, name: str) -> Path:
        """Write the state of a run under `checkpoints/`, whole or not at all."""
        path = self.checkpoint(name)
        if self.writes:
            with self.writing(path):
                write_state(state, path)
        return path

    def save_weights(self, state: Mapping[str, Tensor], name: str) -> Path:
        """Write a state dict under `checkpoints/`, whole or not at all."""
        path = self.checkpoint(name)
        if not self.writes:
            return path
        with self.writing(path):
            write_tensors(state, path, metadata={"format": "pt"})
        return path

    def discard_results(self) -> None:
        """Take away the model files: they were not proven."""
        with self.writing(self.directory):
            for name in _RESULTS:
                (self.directory / name).unlink(missing_ok=True)

    def files(self) -> tuple[FileEntry, ...]:
        """List what was written, with sizes and hashes."""
        entries = []
        for name in _FILES:
            path = self.directory / name
            if path.is_file():
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                entries.append(FileEntry(name=name, bytes=path.stat().st_size, sha256=digest))
        return tuple(entries)

    @contextlib.contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """Turn a failed write into an error for the user, and drop what is half written."""
        try:
            yield
        except (OSError, SafetensorError) as error:
            with contextlib.suppress(OSError):
                self._sweep()
            raise _unwritable(path, error) from error


def _unwritable(path: Path, error: Exception) -> OutputError:
    reason = getattr(error, "strerror", None) or str(error)
    return OutputError(
        f"cannot write {path}: {reason}",
        hint="free some space, or choose another directory with -o",
    )
