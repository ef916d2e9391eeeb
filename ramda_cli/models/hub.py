"""Reaching the Hugging Face hub: one quick attempt, and what to say when it fails.

`hf_hub_download` alone retries for 23 seconds before it says that there is no network.
"""

from pathlib import Path

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ramda_cli.errors import first_line

TIMEOUT_SECONDS = 5.0

# Releases of huggingface_hub differ in their HTTP client; its error class is a base of theirs.
NETWORK_ERRORS: tuple[type[BaseException], ...] = (OSError, *HfHubHTTPError.__bases__)

_ANSWERS = (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError)


class HubUnreachableError(Exception):
    """The hub gave no answer; the message says why."""


def offline_reason() -> str | None:
    """Return why the hub must not be asked, or None when it may be."""
    return "HF_HUB_OFFLINE=1" if constants.HF_HUB_OFFLINE else None


def fetch(repository: str, filename: str, *, revision: str | None = None) -> Path:
    """Return a local copy of a hub file; a cached copy is used without asking the hub.

    Raises:
        HubUnreachableError: there is no cached copy and no network.
        RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError: the hub lacks it.
    """
    cached = try_to_load_from_cache(repository, filename, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    if reason := offline_reason():
        raise HubUnreachableError(reason)
    url = hf_hub_url(repository, filename, revision=revision)
    try:
        get_hf_file_metadata(url, timeout=TIMEOUT_SECONDS)
        return Path(hf_hub_download(repository, filename, revision=revision))
    except _ANSWERS as error:
        if isinstance(error, LocalEntryNotFoundError):  # its class also means "not downloaded"
            raise HubUnreachableError(first_line(error)) from error
        raise
    except NETWORK_ERRORS as error:
        raise HubUnreachableError(first_line(error)) from error
