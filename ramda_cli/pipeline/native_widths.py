"""Families of groups that must be as wide as each other, lest a configuration cannot say it."""

from collections.abc import Sequence

from ramda_cli.export.config_sizes import dimensions_of_settings
from ramda_cli.models.loaded import ModelSource
from ramda_cli.structure import DependencyGroup


def families_of_settings(
    source: ModelSource, groups: Sequence[DependencyGroup]
) -> dict[str, str] | None:
    """Return for each group the settings that say its width, by name; "" where none does.

    None where the library has no configuration that says widths: timm's classes and others.
    """
    if source.kind != "huggingface":
        return None
    followed = dimensions_of_settings(source)
    said = {group.name: _settings(group, followed) for group in groups}
    # Query heads follow one setting and their keys another: groups that share one are a family.
    joined: list[set[str]] = []
    for settings in said.values():
        touching = [each for each in joined if each & settings]
        joined = [each for each in joined if not each & settings]
        joined.append(settings.union(*touching))
    names = {key: "+".join(sorted(family)) for family in joined for key in family}
    return {
        name: names[next(iter(settings))] if settings else "" for name, settings in said.items()
    }


def _settings(group: DependencyGroup, followed: dict[tuple[str, int], frozenset[str]]) -> set[str]:
    """Return the settings of a group; none unless every one of its dimensions follows one."""
    each = [followed.get((part.parameter, part.dim), frozenset()) for part in group.coupled]
    return set().union(*each) if all(each) else set()
