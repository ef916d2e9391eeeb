"""From a model name as a user writes it to a registered timm architecture."""

import difflib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
from timm.models import PretrainedCfg
from timm.models._hub import load_model_config_from_path

from ramda_cli.errors import ModelError
from ramda_cli.models.building import check_arguments
from ramda_cli.models.model_config import Place, place_of


@dataclass(frozen=True)
class TimmModel:
    """What a name stands for.

    Attributes:
        given: the name as the user wrote it.
        name: registered architecture, with its pretrained tag where it has one.
        cfg: input size, normalization, classes and weights.
        arguments: constructor arguments that the hub or directory gives.
        repository: hub id of the weights; with `revision`.
        folder: directory of the weights.
    """

    given: str
    name: str
    cfg: PretrainedCfg
    arguments: dict[str, Any] = field(default_factory=dict)
    repository: str | None = None
    revision: str | None = None
    folder: Path | None = None


def resolve(given: str) -> TimmModel:
    """Find the architecture and its configuration.

    Accepts `resnet50`, `resnet50.a1_in1k`, `hf-hub:org/name[@revision]`, `org/name`,
    `local-dir:PATH` and the path of a directory with a `config.json`.

    Raises:
        ModelError: there is no such model; the hint names similar ones.
    """
    place = place_of(given)
    if place is None:
        return _from_registry(given)
    if place.folder is not None:
        return _from_folder(given, place.folder)
    return _from_hub(place)


def suggestions(name: str, candidates: list[str]) -> str:
    """Return "did you mean a, b or c?", or where to look when nothing is similar."""
    close = difflib.get_close_matches(name, candidates, n=3)
    if not close:
        return f"timm.list_models() lists the names; one on the hub is hf-hub:{name}"
    return f"did you mean {', '.join(close)}?"


def _from_registry(given: str) -> TimmModel:
    architecture, _, tag = given.partition(".")
    if not timm.is_model(architecture):
        names = timm.list_models(pretrained=True) if tag else timm.list_models()
        raise ModelError(f"unknown model {given!r}", hint=suggestions(given, names))
    tagged = timm.list_models(f"{architecture}.*", pretrained=True)
    if tag and given not in tagged:
        raise ModelError(
            f"unknown model {given!r}", hint=suggestions(given, [architecture, *tagged])
        )
    cfg = timm.get_pretrained_cfg(given) or PretrainedCfg(architecture=architecture)
    name = f"{architecture}.{cfg.tag}" if cfg.tag else architecture
    return TimmModel(given, name, cfg, repository=cfg.hf_hub_id)


def _from_folder(given: str, folder: Path) -> TimmModel:
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"no config.json in {folder}",
            hint="give a directory that timm or the hub wrote: config.json and model.safetensors",
        )
    architecture, cfg, arguments = _read_config(given, folder)
    return TimmModel(given, architecture, cfg, arguments, folder=folder)


def _from_hub(place: Place) -> TimmModel:
    config = place.file("config.json")
    if config is None:
        raise ModelError(
            f"{place.repository} has no config.json",
            hint="name a repository that timm or transformers can load",
        )
    architecture, cfg, arguments = _read_config(place.given, config.parent)
    return TimmModel(
        place.given,
        architecture,
        cfg,
        arguments,
        repository=place.repository,
        revision=place.revision,
    )


def _read_config(given: str, folder: Path) -> tuple[str, PretrainedCfg, dict[str, Any]]:
    """Read a timm config.json; a folder's name, its architecture and arguments are untrusted."""
    not_timm = ModelError(
        f"{folder / 'config.json'} does not describe a timm model",
        hint="name a timm model, or path/to/file.py:factory for any other module",
    )
    try:
        given_config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise not_timm from error
    if not isinstance(given_config, dict) or "architecture" not in given_config:
        raise not_timm
    cfg, architecture, arguments = load_model_config_from_path(folder)
    if not timm.is_model(architecture):
        raise ModelError(
            f"{given} is a {architecture!r}, which timm {timm.__version__} does not have",
            hint="update timm",
        )
    check_arguments(given, arguments)
    known = {key: cfg[key] for key in cfg if key in PretrainedCfg.__dataclass_fields__}
    return architecture, PretrainedCfg(**known), dict(arguments)
