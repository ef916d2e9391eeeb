"""The `config.json` of a model, in a directory or on the hub: whose format it is, and its text."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ramda_cli.errors import ModelError
from ramda_cli.models.hub import HubUnreachableError, fetch

_HUB_PREFIXES = ("hf-hub:", "hf_hub:")
_LOCAL_PREFIX = "local-dir:"
_MOST_BYTES = 10_000_000


@dataclass(frozen=True)
class Place:
    """Where the files of a model are.

    Attributes:
        given: the name as the user wrote it.
        folder: a directory; None of a repository.
        repository: hub id; None of a directory.
        revision: of the repository, where one is named.
    """

    given: str
    folder: Path | None = None
    repository: str | None = None
    revision: str | None = None

    @property
    def origin(self) -> str:
        """What the report calls it."""
        if self.folder is not None:
            return str(self.folder)
        at = f"@{self.revision}" if self.revision else ""
        return f"hf-hub:{self.repository}{at}"

    def extra(self, name: str) -> Path | None:
        """Return a local copy of a file that a model may do without.

        Offline it is taken for absent where the cache has none.
        """
        try:
            return self.file(name)
        except ModelError:
            return None

    def file(self, name: str) -> Path | None:
        """Return a local copy of one of its files, None where it has none of that name.

        Raises:
            ModelError: the hub cannot be reached, or does not give it.
        """
        if self.folder is not None:
            path = self.folder / name
            return path if path.is_file() else None
        if self.repository is None:
            raise ValueError("a place is a directory or a repository")
        try:
            return fetch(self.repository, name, revision=self.revision)
        except EntryNotFoundError:
            return None
        except HubUnreachableError as error:
            raise ModelError(
                f"cannot get the model {self.given}: the hub cannot be reached ({error})",
                hint=f"go online, set HF_HOME to a cache that holds {self.repository}, or name a"
                " directory: local-dir:PATH",
            ) from error
        except GatedRepoError as error:
            raise ModelError(
                f"{self.repository} asks for an accepted licence",
                hint=f"accept it at the hub's page of {self.repository} and set HF_TOKEN",
            ) from error
        except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
            raise ModelError(
                f"unknown model {self.given!r}: the hub has no such repository or revision",
                hint="check the name; a private repository needs HF_TOKEN",
            ) from error


def place_of(given: str) -> Place | None:
    """Return where a name points: a directory, a repository, or neither of them.

    `local-dir:PATH` and the path of a directory are directories; `hf-hub:org/name[@revision]` and
    `org/name` are repositories.
    """
    if given.startswith(_LOCAL_PREFIX):
        return Place(given, folder=Path(given.removeprefix(_LOCAL_PREFIX)))
    prefix = next((prefix for prefix in _HUB_PREFIXES if given.startswith(prefix)), None)
    if prefix is None and Path(given).is_dir():
        return Place(given, folder=Path(given))
    if prefix is None and "/" not in given:
        return None
    repository, _, revision = given.removeprefix(prefix or "").partition("@")
    return Place(given, repository=repository, revision=revision or None)


def transformers_config(place: Place) -> dict[str, Any] | None:
    """Return the configuration of a transformers model, None where it is another library's.

    Raises:
        ModelError: it cannot be had or read.
    """
    path = place.file("config.json")
    if path is None:
        return None
    config = read_json(path)
    return config if "model_type" in config else None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model.

    Raises:
        ModelError: it cannot be read, or is none.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is too large")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path} cannot be read: {error}", hint="write it again with save_pretrained"
        ) from error
    if not isinstance(config, Mapping):
        raise ModelError(f"{path} is not a JSON object", hint="write it again")
    return dict(config)
