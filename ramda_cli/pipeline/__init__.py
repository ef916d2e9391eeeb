"""The straight line from a model's name to proven files, and the commands beside it."""

from ramda_cli.pipeline.bench import bench
from ramda_cli.pipeline.bench_optimizer import bench_optimizer
from ramda_cli.pipeline.compare import compare
from ramda_cli.pipeline.evaluate import evaluate
from ramda_cli.pipeline.export import export
from ramda_cli.pipeline.formats import ExportSettings
from ramda_cli.pipeline.inspect import inspect
from ramda_cli.pipeline.prune import prune
from ramda_cli.pipeline.remove import remove
from ramda_cli.pipeline.sweep import SweepSettings, sweep
from ramda_cli.pipeline.verify import verify

__all__ = [
    "ExportSettings",
    "SweepSettings",
    "bench",
    "bench_optimizer",
    "compare",
    "evaluate",
    "export",
    "inspect",
    "prune",
    "remove",
    "sweep",
    "verify",
]
