"""Find the dependency groups of a model."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
from torch import nn

from ramda_cli.structure.export import ExampleInputs, export_graph
from ramda_cli.structure.groups import (
    DependencyGroup,
    FixedChannels,
    ParameterSlice,
    check_disjoint,
    crossing_parameter,
)
from ramda_cli.structure.labels import Array, Fix, Slot
from ramda_cli.structure.solve import Classes, first_fix, solve
from ramda_cli.structure.trace import Trace, module_paths, trace

_KERNEL_POSITION = "a kernel position"
_NOT_CONSUMED = "no weight reads these channels"


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """The exported graph with the class of every channel, which removal rewrites by.

    Attributes:
        trace: the graph and the labels of its values.
        classes: the class of every label.
        members: for each group, the class of each of its channels.
    """

    trace: Trace
    classes: Classes
    members: dict[str, Array]


@dataclass(frozen=True, eq=False)
class Structure:
    """What can be removed from a model, and what cannot.

    Attributes:
        groups: channels that are kept or removed together.
        fixed: channels that stay, each with its reason.
        graph: the graph behind them; None when the groups were not discovered on one.
    """

    groups: tuple[DependencyGroup, ...]
    fixed: tuple[FixedChannels, ...] = ()
    graph: ChannelGraph | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_disjoint(self.groups)

    def group(self, name: str) -> DependencyGroup:
        """Return a group by name.

        Raises:
            KeyError: there is none.
        """
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(name)


def discover(
    model: nn.Module, example_inputs: ExampleInputs, *, keep: Sequence[str] = ()
) -> Structure:
    """Discover which channels of a model live and die together.

    The model is exported by `torch.export` and every operator's rule is applied to the labels of
    its operands. An operator without a rule fixes the channels it touches. The penalized slices of
    a group are those of its consumers: where they are zero, the channel contributes nothing.

    Args:
        model: any module that exports; it is left as it was.
        example_inputs: a tensor, a tuple of positional inputs or a dict of keyword inputs, with
            the batch first.
        keep: glob patterns of group names that must stay.

    Raises:
        StructureError: the model cannot be exported.
    """
    traced = trace(export_graph(model, example_inputs))
    classes = solve(traced)
    builder = _GroupBuilder(traced, classes)
    return builder.structure(tuple(keep))


@dataclass(frozen=True, eq=False)
class _Occurrences:
    """Where every class occurs in the parameters, sorted by class, then slot, then position."""

    of_class: Array
    slot: Array
    position: Array

    def of(self, channel_class: int) -> tuple[Array, Array]:
        low, high = np.searchsorted(self.of_class, [channel_class, channel_class + 1])
        return self.slot[low:high], self.position[low:high]


class _GroupBuilder:
    def __init__(self, traced: Trace, classes: Classes) -> None:
        self._trace = traced
        self._classes = classes
        self._slots = [
            Slot(name, dim)
            for name, value in traced.parameters.items()
            for dim, size in enumerate(value.shape)
            if size > 1
        ]
        self._modules = module_paths(traced.program.graph)
        self._consumers = self._consumer_slots()
        self._occurrences = self._find_occurrences()

    def structure(self, keep: tuple[str, ...]) -> Structure:
        free: dict[tuple[object, ...], list[int]] = {}
        fixed: Counter[tuple[str, str, str]] = Counter()
        for channel_class in np.unique(self._occurrences.of_class).tolist():
            slots, _ = self._occurrences.of(channel_class)
            consumers = self._consumers.get(channel_class, frozenset())
            if self._classes.fix[channel_class] >= 0:
                fix = first_fix(self._classes, self._trace.couplings, channel_class)
                if fix.reason != _KERNEL_POSITION:
                    name, count = self._fixed_part(slots)
                    fixed[name, self._reason(fix), fix.operator] += count
            elif not consumers:
                name, count = self._fixed_part(slots)
                fixed[name, _NOT_CONSUMED, ""] += count
            else:
                free.setdefault((slots.tobytes(), consumers), []).append(channel_class)
        return self._assemble(list(free.values()), fixed, keep)

    def _assemble(
        self,
        members: list[list[int]],
        fixed: Counter[tuple[str, str, str]],
        keep: tuple[str, ...],
    ) -> Structure:
        groups: list[DependencyGroup] = []
        classes: dict[str, Array] = {}
        penalized: list[ParameterSlice] = []
        for channel_classes in members:
            group = self._group(channel_classes, taken=classes)
            pattern = next((p for p in keep if fnmatchcase(group.name, p)), None)
            if pattern is not None:
                fixed[(group.name, f"kept by the pattern {pattern}", "")] = group.channels
                continue
            crossing = crossing_parameter([*penalized, *group.penalized])
            if crossing is not None:
                reason = f"{crossing} is already penalized along another dimension"
                fixed[(group.name, reason, "")] = group.channels
                continue
            penalized += group.penalized
            groups.append(group)
            classes[group.name] = np.array(channel_classes, dtype=np.int64)
        sets = (FixedChannels(n, count, why, op) for (n, why, op), count in fixed.items())
        graph = ChannelGraph(self._trace, self._classes, classes)
        return Structure(tuple(groups), tuple(sets), graph)

    def _group(self, channel_classes: list[int], taken: dict[str, Array]) -> DependencyGroup:
        occurrences = [self._occurrences.of(c) for c in channel_classes]
        channel_classes[:], occurrences = _by_first_position(channel_classes, occurrences)
        slots = occurrences[0][0]
        consumers = self._consumers[channel_classes[0]]
        coupled = []
        for number in dict.fromkeys(slots.tolist()):
            slot = self._slots[number]
            indices = np.stack([positions[slots == number] for _, positions in occurrences])
            coupled.append(ParameterSlice(slot.parameter, slot.dim, indices))
        penalized = tuple(p for p in coupled if Slot(p.parameter, p.dim) in consumers)
        name = _module_name(self._producer(slots.tolist(), consumers).parameter)
        unique, number = name, 1
        while unique in taken:
            number += 1
            unique = f"{name}#{number}"
        return DependencyGroup(unique, len(channel_classes), penalized, tuple(coupled))

    def _producer(self, slots: list[int], consumers: frozenset[Slot]) -> Slot:
        """Return the first slot whose parameter makes the channels, a weight if there is one."""
        made = [self._slots[n] for n in slots if self._slots[n] not in consumers]
        made = made or [self._slots[n] for n in slots]
        weights = (s for s in made if len(self._trace.parameters[s.parameter].shape) > 1)
        return next(weights, made[0])

    def _reason(self, fix: Fix) -> str:
        """Return why channels stay, and in which module."""
        module = self._modules.get(fix.node)
        return f"{fix.reason} at {module}" if module else fix.reason

    def _fixed_part(self, slots: Array) -> tuple[str, int]:
        """Return what makes channels that stay, and how many of its positions they are."""
        slot = self._producer(slots.tolist(), frozenset())
        count = sum(self._slots[number] == slot for number in slots.tolist())
        if slot.dim == 0:
            return _module_name(slot.parameter), count
        return f"{slot.parameter}[dim {slot.dim}]", count

    def _consumer_slots(self) -> dict[int, frozenset[Slot]]:
        found: dict[int, set[Slot]] = {}
        for labels, origin in self._trace.couplings.consumptions:
            for channel_class in np.unique(self._classes.of_label[labels]).tolist():
                found.setdefault(channel_class, set()).update(origin)
        return {channel_class: frozenset(slots) for channel_class, slots in found.items()}

    def _find_occurrences(self) -> _Occurrences:
        of_class, slot, position = [], [], []
        for number, where in enumerate(self._slots):
            value = self._trace.parameters[where.parameter]
            layer = next(layer for layer in value.layers if where.dim in layer.support)
            classes = self._classes.of_label[layer.labels.ravel()]
            of_class.append(classes)
            slot.append(np.full(classes.size, number, dtype=np.int64))
            position.append(np.arange(classes.size, dtype=np.int64))
        columns = [np.concatenate([np.empty(0, np.int64), *c]) for c in (of_class, slot, position)]
        order = np.lexsort((columns[2], columns[1], columns[0]))
        return _Occurrences(*(column[order] for column in columns))


def _by_first_position(
    channel_classes: list[int], occurrences: list[tuple[Array, Array]]
) -> tuple[list[int], list[tuple[Array, Array]]]:
    order = sorted(range(len(channel_classes)), key=lambda i: occurrences[i][1][0])
    return [channel_classes[i] for i in order], [occurrences[i] for i in order]


def _module_name(parameter: str) -> str:
    return parameter.rpartition(".")[0] or parameter
