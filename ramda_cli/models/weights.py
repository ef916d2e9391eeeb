"""Safetensors state dicts: reading them, and loading them strictly."""

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ramda_cli.errors import ModelError
from ramda_cli.models.masks import ORIGINAL, apply_masks

_SHOWN = 3


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, on the CPU.

    Raises:
        ModelError: there is no such file, or it is not safetensors. A pickle is never opened.
    """
    _require_safetensors(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path) from error


def tensor_shape(path: Path, name: str) -> tuple[int, ...] | None:
    """Return the shape of one tensor from the file's header, or None when it is not there.

    One that is masked has the shape that it has without its mask.
    """
    _require_safetensors(path)
    try:
        with safe_open(path, framework="pt") as file:
            stored = next((n for n in (name, name + ORIGINAL) if n in file.keys()), None)  # noqa: SIM118
            return None if stored is None else tuple(file.get_slice(stored).get_shape())
    except (SafetensorError, OSError) as error:
        raise _unreadable(path) from error


def tensor_names(path: Path) -> list[str]:
    """Return the names of the tensors in a safetensors file, from its header."""
    _require_safetensors(path)
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise _unreadable(path) from error


def load_weights_(module: nn.Module, path: Path, *, model: str) -> None:
    """Load a safetensors state dict into `module`: every key, every shape.

    `num_batches_tracked` may be absent, as torch allows. The masks of `torch.nn.utils.prune` are
    applied.

    Raises:
        ModelError: the keys or shapes differ; the message names the first of each kind.
    """
    state = apply_masks(read_weights(path))
    expected = module.state_dict()
    missing = [k for k in expected if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in expected]
    shapes = [
        f"{k} is {tuple(state[k].shape)}, not {tuple(expected[k].shape)}"
        for k in expected
        if k in state and state[k].shape != expected[k].shape
    ]
    require_fit(path, model, missing=missing, unexpected=unexpected, wrong_shape=shapes)
    module.load_state_dict(state)


def require_fit(
    path: Path,
    model: str,
    *,
    missing: Sequence[str],
    unexpected: Sequence[str],
    wrong_shape: Sequence[str],
) -> None:
    """Refuse tensors that are not those of a model.

    Raises:
        ModelError: there are such; the message names the first of each kind.
    """
    kinds = (("missing", missing), ("unexpected", unexpected), ("wrong shape", wrong_shape))
    mismatches = [f"{kind}: {_first(items)}" for kind, items in kinds if items]
    if mismatches:
        raise ModelError(
            f"the weights in {path} do not fit {model}: {'; '.join(mismatches)}",
            hint="pass the model that these weights were saved from",
        )


def _first(items: Sequence[str]) -> str:
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _require_safetensors(path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"no weights file {path}", hint="check the path of the weights")
    if path.suffix != ".safetensors":
        raise ModelError(
            f"{path} is not a .safetensors file; pickled weights are never opened",
            hint="convert it where you trust it: safetensors.torch.save_file(state_dict, FILE)",
        )


def _unreadable(path: Path) -> ModelError:
    return ModelError(
        f"{path} is not a valid safetensors file",
        hint="it may be cut short or misnamed; download or save it again",
    )
