"""Several methods over several seeds, from one file: what they share, and what each sets itself.

A comparison is a run's configuration with two more sections: `methods`, settings of `training` by
label, as `{RAMDA: {method: ramda, lr: 1e-2, weight: 1e-3}}`, and `seeds`, numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramda_cli.config.loading import build_config, read_document
from ramda_cli.config.schema import RunConfig
from ramda_cli.errors import ConfigError

_EXAMPLE = "for example methods: {RAMDA: {method: ramda, lr: 1e-2, weight: 1e-3}}"


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison.

    Attributes:
        label: of its method.
        seed: of the run.
        config: of the run, without its directory.
        chosen: whether it is to be made; another is shown where it is there.
    """

    label: str
    seed: int
    config: RunConfig
    chosen: bool = True

    @property
    def directory(self) -> str:
        """Its name, of letters, digits and hyphens."""
        plain = "".join(c if c.isalnum() else "-" for c in self.label.lower()).strip("-")
        return f"{plain}-{self.seed}"


@dataclass(frozen=True)
class Comparison:
    """What a file compares.

    Attributes:
        name: of the file, without its suffix.
        runs: every method of the file with every seed, the seeds of a method together.
    """

    name: str
    runs: tuple[ComparedRun, ...]

    @property
    def chosen(self) -> tuple[ComparedRun, ...]:
        """Those to be made."""
        return tuple(run for run in self.runs if run.chosen)


def load_comparison(
    path: Path,
    overrides: Mapping[str, object],
    sets: Sequence[str],
    *,
    labels: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> Comparison:
    """Return the runs of a comparison.

    Args:
        path: a YAML file.
        overrides: dotted key to value, of every run; None means the flag was not given.
        sets: `KEY=VALUE` items, which win over all else in every run.
        labels: of the file's methods, which ones; all when not given.
        seeds: in place of the file's.

    Raises:
        ConfigError: the file compares nothing, a setting of a run is wrong, or two labels name
            one directory.
    """
    document = read_document(path)
    methods, own_seeds = document.pop("methods", None), document.pop("seeds", [0])
    if not isinstance(methods, dict) or not methods:
        raise ConfigError(f"{path} has no methods to compare", hint=_EXAMPLE)
    unknown = [label for label in labels if label not in methods]
    if unknown:
        known = ", ".join(map(str, methods))
        raise ConfigError(f"{path} has no method {unknown[0]!r}", hint=f"it has {known}")
    for given_seeds in (own_seeds, seeds or own_seeds):
        if not _are_seeds(given_seeds):
            raise ConfigError(
                f"seeds must be different whole numbers from 0, got {given_seeds!r}",
                hint="for example seeds: [0, 1, 2]",
            )
    chosen_seeds = seeds or own_seeds
    runs: dict[str, ComparedRun] = {}
    for label, settings in methods.items():
        if not isinstance(settings, dict):
            raise ConfigError(f"methods.{label} must be settings of training", hint=_EXAMPLE)
        own: dict[str, Any] = {f"training.{key}": value for key, value in settings.items()}
        for seed in dict.fromkeys((*own_seeds, *chosen_seeds)):
            given = {**own, **overrides, "training.seed": seed}
            chosen = (not labels or label in labels) and seed in chosen_seeds
            run = ComparedRun(str(label), seed, build_config(document, given, sets), chosen=chosen)
            other = runs.setdefault(run.directory, run)
            if other is not run:
                raise ConfigError(
                    f"methods {other.label!r} and {run.label!r} share a directory, {run.directory}",
                    hint="give them names that differ in a letter or digit",
                )
    return Comparison(path.stem, tuple(runs.values()))


def _are_seeds(seeds: object) -> bool:
    if not isinstance(seeds, list | tuple) or not seeds:
        return False
    return all(type(s) is int and s >= 0 for s in seeds) and len(set(seeds)) == len(seeds)
