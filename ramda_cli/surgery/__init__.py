"""Physically smaller models: removing channels, and running a rewritten graph."""

from ramda_cli.surgery.folding import Folding, fold_constants_
from ramda_cli.surgery.plan import RemovalPlan
from ramda_cli.surgery.program import GraphModel, GraphProgram
from ramda_cli.surgery.remove import remove

__all__ = ["Folding", "GraphModel", "GraphProgram", "RemovalPlan", "fold_constants_", "remove"]
