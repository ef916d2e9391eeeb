"""Measuring how fast a pruned model is, in turns with the dense one."""

from ramda_cli.benchmark.measure import Measurement, Plan, measure
from ramda_cli.benchmark.runtimes import Runtime
from ramda_cli.benchmark.statistics import Ratio, Timing

__all__ = ["Measurement", "Plan", "Ratio", "Runtime", "Timing", "measure"]
