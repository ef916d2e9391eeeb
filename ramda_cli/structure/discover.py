"""Find the dependency groups of a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn
from torch.export import ExportedProgram

from ramda_cli.structure.export import export_graph
from ramda_cli.structure.grouping import group_channels
from ramda_cli.structure.groups import DependencyGroup, FixedChannels, check_disjoint
from ramda_cli.structure.labels import Array
from ramda_cli.structure.solve import Classes, solve
from ramda_cli.structure.trace import Trace, trace
from ramda_cli.tasks.inputs import ExampleInputs


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """The exported graph with the class of every channel, which removal rewrites by.

    Attributes:
        trace: the graph and the labels of its values.
        classes: the class of every label.
        members: for each group, the class of each of its channels.
        extents: sets of classes, smallest first, of which one must stay, lest a value be empty.
        aligned: classes along dimensions whose sizes must stay multiples of a number.
    """

    trace: Trace
    classes: Classes
    members: dict[str, Array]
    extents: tuple[Array, ...]
    aligned: tuple[tuple[Array, int], ...] = ()


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
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    keep: Sequence[str] = (),
    residual: bool = False,
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
        residual: also free the widths that only RMSNorms normalise, such as the residual stream of
            a Llama. Their penalized slices are what makes the channels: a channel that is zero
            throughout can go once every mean square is scaled by what is left of the width, which
            removal does. Where a weight would be penalized along both dimensions, the channels
            that it reads are penalized where they are made too.

    Raises:
        StructureError: the model cannot be exported.
    """
    program = export_graph(model, example_inputs)
    return discover_channels(program, keep=keep, residual=residual)


def discover_channels(
    program: ExportedProgram, *, keep: Sequence[str] = (), residual: bool = False
) -> Structure:
    """Discover the groups of a program that `export_graph` has exported; see `discover`."""
    traced = trace(program, residual=residual)
    classes = solve(traced)
    found = group_channels(traced, classes, tuple(keep))
    aligned = tuple((classes.of(labels), multiple) for labels, multiple in traced.couplings.aligned)
    graph = ChannelGraph(traced, classes, found.members, found.extents, aligned)
    return Structure(found.groups, found.fixed, graph)
