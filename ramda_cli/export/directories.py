"""Directories that timm and transformers load by themselves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError
from timm.models import save_for_hf
from torch import nn

from ramda_cli.errors import ModelError, OutputError, first_line
from ramda_cli.export.silence import quiet
from ramda_cli.models.loaded import ModelSource


def write_directory(
    module: Any,
    source: ModelSource,
    path: Path,
    *,
    preprocessing: Mapping[str, Any],
    labels: Sequence[str],
) -> None:
    """Write `config.json` and `model.safetensors` as the model's own library does.

    Args:
        module: an instance of the source's class, with sizes that its arguments give.
        source: a timm or transformers class.
        path: of a new directory.
        preprocessing: what images must look like, by timm's names; for timm.
        labels: class names, where they are known; for timm.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with quiet():
            if source.kind == "timm":
                module.pretrained_cfg = {**module.pretrained_cfg, **preprocessing}
                save_for_hf(
                    module,
                    str(path),
                    model_config={"label_names": list(labels)},
                    model_args=dict(source.arguments),
                    safe_serialization=True,
                )
            else:
                module.save_pretrained(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"cannot write {path}: {getattr(error, 'strerror', None) or error}",
            hint="free some space or choose another directory",
        ) from error


def open_directory(source: ModelSource, path: Path) -> nn.Module:
    """Load a directory of one's own making by its library alone, as anyone would.

    Raises:
        ModelError: the library does not load it.
    """
    try:
        with quiet():
            if source.kind == "timm":
                return timm.create_model(f"local-dir:{path}", pretrained=True).eval()
            import transformers

            return getattr(transformers, source.name).from_pretrained(path).eval()
    except (RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
        raise ModelError(
            f"{source.kind} does not load {path}: {first_line(error)}",
            hint="ramda_cli.load loads the file that it was made from",
        ) from error


def loading_call(source: ModelSource) -> str:
    """Return the call that loads a directory, with its path left open."""
    if source.kind == "timm":
        return 'timm.create_model("local-dir:{path}", pretrained=True)'
    return f'transformers.{source.name}.from_pretrained("{{path}}")'
