"""From classes of channels to groups with names, and to reasons for what stays."""

from collections import Counter
from collections.abc import Iterator
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
    """Where every class occurs in the parameters.

    Attributes:
        classes: that occur, ascending.
        starts: where each one begins in the arrays below, and where the last one ends.
        slots: by slot number, for each class ascending.
        positions: along the slot's dimension, ascending within a slot.
    """

    classes: Array
    starts: Array
    slots: Array
    positions: Array

    def slots_of(self, number: int) -> Array:
        """Return the slots of the class that is number `number` of those that occur."""
        return self.slots[self.starts[number] : self.starts[number + 1]]

    def alike(self, numbers: Array, readers: Array) -> list[Array]:
        """Split numbers of classes by where these occur, and by their readers.

        Each part is ascending, and so are the parts by their first number.
        """
        counts = self.starts[numbers + 1] - self.starts[numbers]
        parts: list[Array] = []
        for count in np.unique(counts).tolist():
            same = numbers[counts == count]
            places = self.slots[self.starts[same][:, None] + np.arange(count)]
            keys = np.column_stack([places, readers[same]])
            _, which = np.unique(keys, axis=0, return_inverse=True)
            order = np.argsort(which.ravel(), kind="stable")
            ends = np.flatnonzero(np.diff(which.ravel()[order])) + 1
            parts += np.split(same[order], ends)
        return sorted(parts, key=lambda part: int(part[0]))


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
        self._fixed: Counter[tuple[str, str, str]] = Counter()
        self._names: set[str] = set()
        self._penalized: dict[str, list[ParameterSlice]] = {}

    def grouping(self) -> Grouping:
        where = self._occurrences()
        groups: list[DependencyGroup] = []
        members: dict[str, Array] = {}
        for alike, consumers in self._free(where):
            group, order = self._group(where, alike, consumers)
            reason = self._reason_to_keep(group)
            if reason is not None:
                self._fixed[group.name, reason, ""] = group.channels
                continue
            for part in group.penalized:
                self._penalized.setdefault(part.parameter, []).append(part)
            groups.append(group)
            members[group.name] = where.classes[alike][order]
        fixed = (FixedChannels(n, count, why, op) for (n, why, op), count in self._fixed.items())
        return Grouping(tuple(groups), tuple(fixed), members, self._extents)

    def _free(self, where: _Occurrences) -> Iterator[tuple[Array, frozenset[Slot]]]:
        """Yield the classes that can be removed, those of one group together; note the others.

        Classes are numbered as in `where`.
        """
        readers, sets = self._consumers()
        fixed = self._classes.fix[where.classes] >= 0
        read = readers[where.classes] > 0
        lone = [int(extent[0]) for extent in self._extents if extent.size == 1]
        alone = np.isin(where.classes, np.array(lone, dtype=np.int64))
        for number in np.flatnonzero(fixed | ~read | alone).tolist():
            slots = where.slots_of(number)
            if not fixed[number]:
                self._note_fixed(slots, _ALONE if read[number] else _NOT_CONSUMED)
                continue
            fix = first_fix(self._classes, self._trace.couplings, int(where.classes[number]))
            if fix.reason != _KERNEL_POSITION:
                self._note_fixed(slots, self._reason(fix), fix.operator)
        free = np.flatnonzero(~fixed & read & ~alone)
        for alike in where.alike(free, readers[where.classes]):
            yield alike, sets[readers[where.classes[alike[0]]]]

    def _group(
        self, where: _Occurrences, alike: Array, consumers: frozenset[Slot]
    ) -> tuple[DependencyGroup, Array]:
        """Return a group and the order of its channels: by their first position."""
        slots = where.slots_of(int(alike[0]))
        positions = where.positions[where.starts[alike][:, None] + np.arange(slots.size)]
        order = np.argsort(positions[:, 0], kind="stable")
        coupled = tuple(
            ParameterSlice(*self._slot_of(number), positions[order][:, slots == number])
            for number in dict.fromkeys(slots.tolist())
        )
        penalized = tuple(p for p in coupled if Slot(p.parameter, p.dim) in consumers)
        name = self._unique(_module_name(self._producer(slots, consumers).parameter))
        return DependencyGroup(name, alike.size, penalized, coupled), order

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

    def _note_fixed(self, slots: Array, reason: str, operator: str = "") -> None:
        """Count the positions of a class that stays, under the name of what makes it."""
        slot = self._producer(slots, frozenset())
        count = int((slots == self._number[slot]).sum())
        name = f"{slot.parameter}[dim {slot.dim}]" if slot.dim else _module_name(slot.parameter)
        self._fixed[name, reason, operator] += count

    def _consumers(self) -> tuple[Array, list[frozenset[Slot]]]:
        """Return for each class the number of its set of readers, 0 for none, and the sets."""
        none = np.empty(0, np.int64)
        of_class, slots = [none], [none]
        for labels, origin in self._trace.couplings.consumptions:
            classes = np.unique(self._classes.of_label[labels])
            for slot in origin:
                of_class.append(classes)
                slots.append(np.full(classes.size, self._number[slot], dtype=np.int64))
        distinct, starts, reading = _by_class(np.concatenate(of_class), np.concatenate(slots))
        sets: list[frozenset[Slot]] = [frozenset()]
        known: dict[bytes, int] = {}
        readers = np.zeros(self._classes.count + 1, dtype=np.int64)
        for number, channel_class in enumerate(distinct.tolist()):
            own = np.unique(reading[starts[number] : starts[number + 1]])
            key = own.tobytes()
            if key not in known:
                known[key] = len(sets)
                sets.append(frozenset(self._slots[n] for n in own.tolist()))
            readers[channel_class] = known[key]
        return readers, sets

    def _occurrences(self) -> _Occurrences:
        none = np.empty(0, np.int64)
        of_class, slot, position = [none], [none], [none]
        for number, where in enumerate(self._slots):
            value = self._trace.parameters[where.parameter]
            layer = next(layer for layer in value.layers if where.dim in layer.support)
            classes = self._classes.of_label[layer.labels.ravel()]
            of_class.append(classes)
            slot.append(np.full(classes.size, number, dtype=np.int64))
            position.append(np.arange(classes.size, dtype=np.int64))
        all_classes, all_slots = np.concatenate(of_class), np.concatenate(slot)
        # Positions ascend within a slot already, and the order is stable.
        order = np.lexsort((all_slots, all_classes))
        distinct, starts, slots = _by_class(all_classes, all_slots, order)
        return _Occurrences(distinct, starts, slots, np.concatenate(position)[order])


def _by_class(
    classes: Array, slots: Array, order: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return the classes that occur, where each one's slots start, and last end, and the slots."""
    if order is None:
        order = np.lexsort((slots, classes))
    distinct, starts = np.unique(classes[order], return_index=True)
    return distinct, np.append(starts, order.size), slots[order]


def _module_name(parameter: str) -> str:
    return parameter.rpartition(".")[0] or parameter
