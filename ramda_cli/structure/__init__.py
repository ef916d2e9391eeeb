"""Which channels of a model live and die together, found on its ATen graph."""

from ramda_cli.structure.discover import ChannelGraph, Structure, discover
from ramda_cli.structure.groups import DependencyGroup, FixedChannels, ParameterSlice
from ramda_cli.structure.paper import input_channel_structure
from ramda_cli.structure.support import Support, identify, zero_

__all__ = [
    "ChannelGraph",
    "DependencyGroup",
    "FixedChannels",
    "ParameterSlice",
    "Structure",
    "Support",
    "discover",
    "identify",
    "input_channel_structure",
    "zero_",
]
