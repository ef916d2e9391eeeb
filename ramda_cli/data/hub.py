"""Data sets on the Hugging Face hub, and ImageNet."""

import difflib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)

from ramda_cli.config.schema import DataConfig
from ramda_cli.data.folder import folder
from ramda_cli.data.images import ImageData
from ramda_cli.data.tables import from_splits
from ramda_cli.errors import DataError, first_line
from ramda_cli.models.hub import NETWORK_ERRORS, TIMEOUT_SECONDS, offline_reason

IMAGENET = "ILSVRC/imagenet-1k"
BUILT_IN = ("digits", "imagenet", "torch/cifar10", "torch/cifar100", "torch/mnist")
_KNOWN = {
    "wikitext": "get Salesforce/wikitext from the Hugging Face hub and write its splits as"
    " train.txt, valid.txt and test.txt",
}
"""Data sets that nobody downloads by name here: what to do, by a part of their directory's name."""


def hub_dataset(name: str, config: DataConfig) -> ImageData:
    """Load a data set of images by its hub id; the library keeps it in its cache.

    Raises:
        DataError: it does not exist, is not given to this user, or the hub cannot be reached.
    """
    return replace(from_splits(load_hub_splits(name), config, name=name), hub_id=name)


def load_hub_splits(name: str, *, streaming: bool = False) -> dict[str, Any]:
    """Load every split of a data set by its hub id, or open it as a stream.

    Raises:
        DataError: as `hub_dataset`.
    """
    if offline_reason() is None:
        _require_access(name)
    try:
        stream = {"streaming": True} if streaming else {}
        return dict(datasets.load_dataset(name, **stream))
    except datasets.exceptions.DatasetNotFoundError as error:
        raise _unknown(name) from error
    except ConnectionError as error:
        raise _unreachable(name, offline_reason() or "no network") from error
    except (datasets.exceptions.DatasetGenerationError, RuntimeError, ValueError) as error:
        raise DataError(
            f"cannot load the data set {name!r}: {first_line(error)}",
            hint="download the subset you need and pass its directory",
        ) from error


def imagenet(config: DataConfig) -> ImageData:
    """Read ImageNet from `--data-dir`, from `IMAGENET_DIR`, or from the hub with a token.

    Raises:
        DataError: none of the three is there.
    """
    flag = "--data-dir" if config.data_dir is not None else "IMAGENET_DIR"
    given = config.data_dir or os.environ.get("IMAGENET_DIR")
    if given:
        root = Path(given)
        if not root.is_dir():
            raise DataError(f"no directory {root}", hint=f"correct {flag}")
        return folder(root, config)
    if get_token() is None:
        raise DataError(
            "imagenet is not on this machine",
            hint="pass --data-dir DIR or set IMAGENET_DIR to a directory with train/ and val/, "
            f"or set HF_TOKEN to an account that may read {IMAGENET}",
        )
    return hub_dataset(IMAGENET, config)


def _require_access(name: str) -> None:
    """Ask the hub once and quickly: the library alone retries for 23 seconds without network."""
    try:
        HfApi().dataset_info(name, timeout=TIMEOUT_SECONDS)
    except GatedRepoError as error:
        raise DataError(
            f"{name} asks for an accepted licence",
            hint=f"accept it at the hub's page of {name} and set HF_TOKEN",
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise _unknown(name) from error
    except HfHubHTTPError as error:
        raise _unreachable(name, first_line(error)) from error
    except NETWORK_ERRORS as error:
        raise _unreachable(name, str(error)) from error


def _unknown(name: str) -> DataError:
    return DataError(f"unknown data set {name!r}", hint=suggestion(name))


def _unreachable(name: str, reason: str) -> DataError:
    return DataError(
        f"cannot get the data set {name!r}: there is no such file or directory, and the hub "
        f"cannot be reached ({reason})",
        hint=f"{suggestion(name)}; a cached copy is used with HF_HUB_OFFLINE=1",
    )


def where_to_get(path: Path) -> str:
    """Return a hint for a path that is not there: of a well-known data set where it is found."""
    known = next((hint for name, hint in _KNOWN.items() if name in path.name.lower()), None)
    return "check the path given to --data" if known is None else f"{known} into {path}"


def suggestion(name: str) -> str:
    """Return what a mistyped data set may have meant."""
    close = difflib.get_close_matches(name, BUILT_IN, n=2, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return "give a directory of images, a parquet file, a hub id, or one of " + ", ".join(BUILT_IN)
