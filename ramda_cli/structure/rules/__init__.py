"""What each ATen operator does to channels, one small function each.

A rule is called with the arguments of its operator and says, in terms of the primitives, which
channels its result has. Pointwise operators and reductions are recognised by their tags; every
other operator needs a function here, or the channels it touches are fixed.
"""

from ramda_cli.structure.rules import (  # noqa: F401  (importing registers the rules)
    attention,
    contraction,
    convolution,
    factory,
    indexing,
    normalization,
    padding,
    pointwise,
    recurrent,
    reduction,
    shape,
    spatial,
)
from ramda_cli.structure.rules.registry import RULES, Output, Rule, unlabelled

__all__ = ["RULES", "Output", "Rule", "unlabelled"]
