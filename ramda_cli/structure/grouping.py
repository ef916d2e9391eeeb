"""From classes of channels to groups with names, and to reasons for what stays."""

from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from ramda_cli.structure.groups import (
    DependencyGroup,
    FixedChannels,
    ParameterSlice,
    crossing_parameter,
)
from ramda_cli.structure.labels import Array, Fix, Slot
from ramda_cli.structure.solve import Classes, extents, first_fix
from ramda_cli.structure.trace import Trace, module_paths

_KERNEL_POSITION = "a kernel position"
_NOT_CONSUMED = "no weight reads these channels"
_ALONE = "they only go together, and nothing would be left"


@dataclass(frozen=True, eq=False)
class Grouping:
    """What can be removed and what cannot.

    Attributes:
        groups: channels that are kept or removed together.
        fixed: channels that stay.
        members: for each group, the class of each of its channels.
        extents: sets of classes, smallest first, of which one must stay.
    """

    groups: tuple[DependencyGroup, ...]
    fixed: tuple[FixedChannels, ...]
    members: dict[str, Array]
    extents: tuple[Array, ...]


def group_channels(traced: Trace, classes: Classes, keep: tuple[str, ...]) -> Grouping:
    """Group the classes that occur in the same dimensions and have the same consumers.

    Args:
        traced: the graph and what its rules found.
        classes: from `solve`.
        keep: glob patterns of group names that must stay.
    """
    return _Grouper(traced, classes, keep).grouping()


@dataclass(frozen=True, eq=False)
class _Occurrences:
    """Where one class occurs in the parameters, by slot number, then position."""

    slots: Array
    positions: Array


class _Grouper:
    def __init__(self, traced: Trace, classes: Classes, keep: tuple[str, ...]) -> None:
        self._trace = traced
        self._classes = classes
        self._keep = keep
        self._slots = [
            Slot(name, dim)
            for name, value in traced.parameters.items()
            for dim, size in enumerate(value.shape)
            if size > 1
        ]
        self._number = {slot: number for number, slot in enumerate(self._slots)}
        self._extents = extents(traced, classes)
        self._modules = module_paths(traced.program.graph)
        self._consumers = self._consumer_slots()
        self._fixed: Counter[tuple[str, str, str]] = Counter()
        self._names: set[str] = set()
        self._penalized: dict[str, list[ParameterSlice]] = {}

    def grouping(self) -> Grouping:
        occurrences = self._occurrences()
        groups: list[DependencyGroup] = []
        members: dict[str, Array] = {}
        for alike in self._free(occurrences):
            group, order = self._group([occurrences[c] for c in alike], self._consumers[alike[0]])
            reason = self._reason_to_keep(group)
            if reason is not None:
                self._fixed[group.name, reason, ""] = group.channels
                continue
            for part in group.penalized:
                self._penalized.setdefault(part.parameter, []).append(part)
            groups.append(group)
            members[group.name] = np.array(alike, dtype=np.int64)[order]
        fixed = (FixedChannels(n, count, why, op) for (n, why, op), count in self._fixed.items())
        return Grouping(tuple(groups), tuple(fixed), members, self._extents)

    def _free(self, occurrences: dict[int, _Occurrences]) -> list[list[int]]:
        """Return the classes that can be removed, those of one group together; note the others."""
        free: dict[tuple[object, ...], list[int]] = {}
        alone = {int(extent[0]) for extent in self._extents if extent.size == 1}
        for channel_class, where in occurrences.items():
            consumers = self._consumers.get(channel_class, frozenset())
            if self._classes.fix[channel_class] >= 0:
                fix = first_fix(self._classes, self._trace.couplings, channel_class)
                if fix.reason != _KERNEL_POSITION:
                    self._note_fixed(where, self._reason(fix), fix.operator)
            elif not consumers:
                self._note_fixed(where, _NOT_CONSUMED)
            elif channel_class in alone:
                self._note_fixed(where, _ALONE)
            else:
                free.setdefault((where.slots.tobytes(), consumers), []).append(channel_class)
        return list(free.values())

    def _group(
        self, occurrences: list[_Occurrences], consumers: frozenset[Slot]
    ) -> tuple[DependencyGroup, Array]:
        """Return a group and the order of its channels: by their first position."""
        slots = occurrences[0].slots
        positions = np.stack([where.positions for where in occurrences])
        order = np.argsort(positions[:, 0], kind="stable")
        coupled = tuple(
            ParameterSlice(*self._slot_of(number), positions[order][:, slots == number])
            for number in dict.fromkeys(slots.tolist())
        )
        penalized = tuple(p for p in coupled if Slot(p.parameter, p.dim) in consumers)
        name = self._unique(_module_name(self._producer(slots, consumers).parameter))
        return DependencyGroup(name, len(occurrences), penalized, coupled), order

    def _slot_of(self, number: int) -> tuple[str, int]:
        slot = self._slots[number]
        return slot.parameter, slot.dim

    def _unique(self, name: str) -> str:
        unique, number = name, 1
        while unique in self._names:
            number += 1
            unique = f"{name}#{number}"
        self._names.add(unique)
        return unique

    def _reason_to_keep(self, group: DependencyGroup) -> str | None:
        pattern = next((p for p in self._keep if fnmatchcase(group.name, p)), None)
        if pattern is not None:
            return f"kept by the pattern {pattern}"
        others = (p for part in group.penalized for p in self._penalized.get(part.parameter, ()))
        crossing = crossing_parameter([*dict.fromkeys(others), *group.penalized])
        return crossing and f"{crossing} is already penalized along another dimension"

    def _producer(self, slots: Array, consumers: frozenset[Slot]) -> Slot:
        """Return the first slot whose parameter makes the channels, a weight if there is one."""
        found = [self._slots[number] for number in slots.tolist()]
        made = [slot for slot in found if slot not in consumers] or found
        weights = (s for s in made if len(self._trace.parameters[s.parameter].shape) > 1)
        return next(weights, made[0])

    def _reason(self, fix: Fix) -> str:
        """Return why channels stay, and in which module."""
        module = self._modules.get(fix.node)
        return f"{fix.reason} at {module}" if module else fix.reason

    def _note_fixed(self, where: _Occurrences, reason: str, operator: str = "") -> None:
        """Count the positions of a class that stays, under the name of what makes it."""
        slot = self._producer(where.slots, frozenset())
        count = int((where.slots == self._number[slot]).sum())
        name = f"{slot.parameter}[dim {slot.dim}]" if slot.dim else _module_name(slot.parameter)
        self._fixed[name, reason, operator] += count

    def _consumer_slots(self) -> dict[int, frozenset[Slot]]:
        found: dict[int, set[Slot]] = {}
        for labels, origin in self._trace.couplings.consumptions:
            for channel_class in np.unique(self._classes.of_label[labels]).tolist():
                found.setdefault(channel_class, set()).update(origin)
        return {channel_class: frozenset(slots) for channel_class, slots in found.items()}

    def _occurrences(self) -> dict[int, _Occurrences]:
        """Return where every class occurs, in the order of the classes."""
        none = np.empty(0, np.int64)
        of_class, slot, position = [none], [none], [none]
        for number, where in enumerate(self._slots):
            value = self._trace.parameters[where.parameter]
            layer = next(layer for layer in value.layers if where.dim in layer.support)
            classes = self._classes.of_label[layer.labels.ravel()]
            of_class.append(classes)
            slot.append(np.full(classes.size, number, dtype=np.int64))
            position.append(np.arange(classes.size, dtype=np.int64))
        classes, slots, positions = (np.concatenate(one) for one in (of_class, slot, position))
        order = np.lexsort((positions, slots, classes))
        distinct, starts = np.unique(classes[order], return_index=True)
        pieces = zip(
            distinct.tolist(),
            np.split(slots[order], starts[1:]),
            np.split(positions[order], starts[1:]),
            strict=False,
        )
        return {channel_class: _Occurrences(s, p) for channel_class, s, p in pieces}


def _module_name(parameter: str) -> str:
    return parameter.rpartition(".")[0] or parameter
