"""From classes of channels to groups with names, and to reasons for what stays."""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain

import numpy as np

from ramda_cli.structure.groups import (
    DependencyGroup,
    FixedChannels,
    ParameterSlice,
    crossing_parameter,
)
from ramda_cli.structure.labels import Array, Fix, Mask, Slot
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


@dataclass(frozen=True, eq=False)
class _Penalized:
    """The slots that the regularizer sees, by class.

    Attributes:
        of_class: for each class the number of its set of slots, 0 for none.
        sets: by number.
        first_of_makers: sets from this number on are what makes the channels, not what reads them.
    """

    of_class: Array
    sets: list[frozenset[Slot]]
    first_of_makers: int


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
        penalized = self._penalized_slots()
        for alike in self._free(where, penalized.of_class):
            number = int(penalized.of_class[where.classes[alike[0]]])
            makes = number >= penalized.first_of_makers
            group, order = self._group(where, alike, penalized.sets[number], makes=makes)
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

    def _free(self, where: _Occurrences, penalized: Array) -> list[Array]:
        """Return the classes that can be removed, those of one group together; note the others.

        Classes are numbered as in `where`.
        """
        own = penalized[where.classes]
        fixed = self._classes.fix[where.classes] >= 0
        read = own > 0
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
        return where.alike(free, own)

    def _group(
        self, where: _Occurrences, alike: Array, seen: frozenset[Slot], *, makes: bool
    ) -> tuple[DependencyGroup, Array]:
        """Return a group and the order of its channels: by their first position.

        Args:
            where: occurrences of all classes.
            alike: the numbers of the group's classes.
            seen: slots that the regularizer sees.
            makes: whether these make the channels; otherwise they read them.
        """
        slots = where.slots_of(int(alike[0]))
        positions = where.positions[where.starts[alike][:, None] + np.arange(slots.size)]
        order = np.argsort(positions[:, 0], kind="stable")
        coupled = tuple(
            ParameterSlice(*self._slot_of(number), positions[order][:, slots == number])
            for number in dict.fromkeys(slots.tolist())
        )
        penalized = tuple(p for p in coupled if Slot(p.parameter, p.dim) in seen)
        found = {self._slots[number] for number in slots.tolist()}
        name = self._unique(
            _module_name(self._producer(slots, found - seen if makes else seen).parameter)
        )
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

    def _producer(self, slots: Array, consumers: AbstractSet[Slot]) -> Slot:
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

    def _penalized_slots(self) -> _Penalized:
        """Return what the regularizer sees of each class.

        These are its readers; of a stream they are its makers, wherever it is normalised or read.
        So they are where a reader is also a maker of a stream: a weight is penalized along one
        dimension alone.
        """
        consumptions = self._trace.couplings.consumptions
        streams = self._trace.couplings.streams
        sets: list[frozenset[Slot]] = [frozenset()]
        penalized = np.zeros(self._classes.count + 1, dtype=np.int64)
        self._collect(((c.labels, c.readers) for c in consumptions), penalized, sets)
        first_of_makers = len(sets)
        if not streams:
            return _Penalized(penalized, sets, first_of_makers)
        making = {slot.parameter: slot.dim for stream in streams for slot in stream.makers}
        crossing = [
            number
            for number, slots in enumerate(sets)
            if any(making.get(slot.parameter, slot.dim) != slot.dim for slot in slots)
        ]
        crossed = np.isin(penalized, np.array(crossing, dtype=np.int64))
        made = [c for c in consumptions if crossed[self._classes.of_label[c.labels]].any()]
        if all(c.makers for c in made):
            self._collect(((c.labels, c.makers) for c in made), penalized, sets, where=crossed)
        # Zero where it is normalised is not yet zero where it is read: between, more is added.
        flowing = np.zeros_like(penalized, dtype=bool)
        for stream in streams:
            flowing[self._classes.of_label[stream.labels]] = True
        read = ((c.labels, c.makers or c.readers) for c in consumptions)
        normalised = ((s.labels, s.makers) for s in streams)
        self._collect(chain(normalised, read), penalized, sets, where=flowing)
        return _Penalized(penalized, sets, first_of_makers)

    def _collect(
        self,
        found: Iterable[tuple[Array, tuple[Slot, ...]]],
        number_of_class: Array,
        sets: list[frozenset[Slot]],
        where: Mask | None = None,
    ) -> None:
        """Give the classes of some labels the number of the set of all slots found for them."""
        none = np.empty(0, np.int64)
        of_class, slots = [none], [none]
        for labels, origin in found:
            classes = np.unique(self._classes.of_label[labels])
            for slot in origin:
                of_class.append(classes)
                slots.append(np.full(classes.size, self._number[slot], dtype=np.int64))
        distinct, starts, reading = _by_class(np.concatenate(of_class), np.concatenate(slots))
        known: dict[bytes, int] = {}
        for number, channel_class in enumerate(distinct.tolist()):
            if where is not None and not where[channel_class]:
                continue
            own = np.unique(reading[starts[number] : starts[number + 1]])
            key = own.tobytes()
            if key not in known:
                known[key] = len(sets)
                sets.append(frozenset(self._slots[n] for n in own.tolist()))
            number_of_class[channel_class] = known[key]

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
