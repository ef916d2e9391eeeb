"""Finding the pretrained weights of a timm model as a safetensors file."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

from ramda_cli.errors import ModelError
from ramda_cli.models.hub import HubUnreachableError, fetch
from ramda_cli.models.timm_names import TimmModel

_FILE_NAMES = ("model.safetensors", "open_clip_model.safetensors")
_WITHOUT = "pass --weights FILE.safetensors, or --no-pretrained"


@dataclass(frozen=True)
class Weights:
    """A safetensors file and where it came from, for the report."""

    path: Path
    origin: str


def pretrained_weights(model: TimmModel) -> Weights:
    """Return the model's pretrained weights, downloading them at most once.

    Raises:
        ModelError: there are none, only a pickle holds them, or the hub cannot be reached.
    """
    if model.folder is not None:
        return _in_folder(model.folder)
    if model.repository is not None:
        return _on_hub(model, model.repository)
    if model.cfg.url:
        raise _only_pickled(model.given)
    raise ModelError(f"{model.given} has no pretrained weights", hint=_WITHOUT)


def _in_folder(folder: Path) -> Weights:
    named = [folder / name for name in _FILE_NAMES if (folder / name).is_file()]
    found = named or sorted(folder.glob("*.safetensors"))
    if not found:
        raise _only_pickled(str(folder))
    if not named and len(found) > 1:
        raise ModelError(
            f"{folder} has {len(found)} safetensors files and none is named model.safetensors",
            hint="choose one with --weights FILE.safetensors",
        )
    return Weights(found[0], str(found[0]))


def _on_hub(model: TimmModel, repository: str) -> Weights:
    problem = f"cannot get the pretrained weights of {model.given}"
    for name in _FILE_NAMES:
        try:
            path = fetch(repository, name, revision=model.revision)
        except HubUnreachableError as error:
            raise ModelError(
                f"{problem}: the hub cannot be reached ({error})",
                hint=f"go online, set HF_HOME to a cache that holds {repository}, {_WITHOUT}",
            ) from error
        except (GatedRepoError, RepositoryNotFoundError) as error:
            raise ModelError(
                f"{problem}: the hub does not give {repository} to you",
                hint=f"set HF_TOKEN to an account that may read it, {_WITHOUT}",
            ) from error
        except EntryNotFoundError:
            continue
        # Cached files lie in snapshots/<commit>/.
        return Weights(path, f"hf-hub:{repository}@{path.parent.name}")
    raise _only_pickled(repository)


def _only_pickled(where: str) -> ModelError:
    return ModelError(
        f"{where} has no weights as safetensors, and pickled weights are never opened",
        hint=_WITHOUT,
    )
