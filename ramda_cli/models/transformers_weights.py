"""The safetensors files of a transformers model, whole or in shards."""

from pathlib import Path

from torch import Tensor

from ramda_cli.errors import ModelError
from ramda_cli.models.masks import apply_masks
from ramda_cli.models.model_config import Place, read_json
from ramda_cli.models.weights import read_weights

_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"


def pretrained_tensors(place: Place) -> tuple[dict[str, Tensor], str]:
    """Return all tensors of a model, masks of `torch.nn.utils.prune` applied, and their origin.

    Raises:
        ModelError: there are none as safetensors, or a file cannot be read.
    """
    index = place.extra(_INDEX)
    whole = None if index is not None else place.file(_WHOLE)
    if whole is not None:
        return apply_masks(read_weights(whole)), _origin(place, whole)
    if index is None:
        raise ModelError(
            f"{place.origin} has no weights as safetensors, and pickled weights are never opened",
            hint="pass --weights FILE.safetensors, or --no-pretrained",
        )
    state: dict[str, Tensor] = {}
    for name in _shards(index):
        path = place.file(name)
        if path is None:
            raise ModelError(
                f"{place.origin} lacks {name}, which its index names", hint="download it again"
            )
        state.update(read_weights(path))
    return apply_masks(state), _origin(place, index)


def _origin(place: Place, file: Path) -> str:
    """Return where weights are from; cached files lie in snapshots/<commit>/."""
    if place.folder is not None:
        return str(place.folder)
    return f"hf-hub:{place.repository}@{file.parent.name}"


def _shards(index: Path) -> list[str]:
    named = read_json(index).get("weight_map")
    files = set(named.values()) if isinstance(named, dict) else set()
    plain = all(isinstance(name, str) and Path(name).name == name for name in files)
    if not files or not plain:
        raise ModelError(f"{index} names no files", hint="download it again")
    return sorted(files)
