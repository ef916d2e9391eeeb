"""Putting a finished run on the Hugging Face hub, as HF_TOKEN or `hf auth login` says who."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public, but not in __all__
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    validate_repo_id,
)

from ramda_cli.errors import ConfigError, OutputError, first_line
from ramda_cli.models.hub import NETWORK_ERRORS, offline_reason

PUBLISHED: Final = (
    "model.safetensors",
    "model.onnx",
    "model.onnx.data",
    "config.yaml",
    "report.json",
    "report.html",
    "README.md",
)
"""What goes to the hub; checkpoints and logs stay."""

_Errors = tuple[type[BaseException], ...]
# A token that no header can hold is a UnicodeError.
_ACCOUNT_ERRORS: Final[_Errors] = (*NETWORK_ERRORS, UnicodeError)
# Metadata that the hub refuses is a ValueError, a failed transfer of large files a RuntimeError.
_UPLOAD_ERRORS: Final[_Errors] = (*NETWORK_ERRORS, ValueError, RuntimeError)


def check_account(repository: str) -> None:
    """Ask the hub whether this account can write there, before anything long starts.

    Raises:
        ConfigError: the name is not one that the hub takes, or the hub must not be asked.
        OutputError: there is no token, the hub does not accept it, or it may not write there.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ConfigError(
            f"--push-to-hub: {_reason(error)}",
            hint="for example --push-to-hub org/resnet50-half",
        ) from error
    if reason := offline_reason():
        raise ConfigError(
            f"--push-to-hub needs the hub, and {reason} forbids to ask it",
            hint=f"unset HF_HUB_OFFLINE, or leave the flag out and upload later with "
            f"`{_by_hand(repository, Path('DIR'), public=False)}`",
        )
    try:
        account = HfApi().whoami()
    except LocalTokenNotFoundError as error:
        raise OutputError(
            "--push-to-hub needs an account, and there is no token",
            hint="set HF_TOKEN to a token that may write, or log in with `hf auth login`",
        ) from error
    except _ACCOUNT_ERRORS as error:
        raise OutputError(
            f"the hub does not accept the token, or cannot be reached: {_reason(error)}",
            hint="check HF_TOKEN and the network; `hf auth whoami` asks the same",
        ) from error
    _require_write(account, repository)


def publish(directory: Path, repository: str, *, public: bool) -> str:
    """Create the repository if need be, upload the result and return the repository's address.

    Raises:
        OutputError: that failed; the result in `directory` is whole all the same.
    """
    api = HfApi()
    try:
        with _without_progress():
            address = api.create_repo(repository, private=not public, exist_ok=True)
            api.upload_folder(
                repo_id=repository,
                folder_path=directory,
                allow_patterns=list(PUBLISHED),
                commit_message="Pruned with ramda",
            )
    except _UPLOAD_ERRORS as error:
        raise OutputError(
            f"the result is whole in {directory}, but not on the hub: {_reason(error)}",
            hint=f"upload it with `{_by_hand(repository, directory, public=public)}`",
        ) from error
    return str(address)


def _require_write(account: Mapping[str, Any], repository: str) -> None:
    owner = repository.partition("/")[0]
    name = account.get("name")
    owners = [name, *(each.get("name") for each in account.get("orgs") or ())]
    if owner not in owners:
        raise OutputError(
            f"the token is of {name}, who is not in {owner}",
            hint=f"choose one of {', '.join(map(str, owners))}, or another token",
        )
    token = (account.get("auth") or {}).get("accessToken") or {}
    # What a fine-grained token may do is only known when it is tried.
    if token.get("role") == "read":
        raise OutputError(
            f"the token of {name} may only read", hint="set HF_TOKEN to one that may write"
        )


def _by_hand(repository: str, directory: Path, *, public: bool) -> str:
    private = "" if public else " --private"
    return (
        f"hf upload {repository} {shlex.quote(str(directory))} .{private} --exclude 'checkpoints/*'"
    )


def _reason(error: BaseException) -> str:
    """Return the first line of an error, without the token should a library quote it."""
    line = first_line(error)
    token = get_token()
    return line.replace(token, "***") if token else line


@contextmanager
def _without_progress() -> Iterator[None]:
    # Its bars would run into this package's own.
    disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not disabled:
            enable_progress_bars()
