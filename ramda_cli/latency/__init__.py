"""How long smaller models take, measured operator by operator before there is one."""

from ramda_cli.latency.table import LatencyTable, measure_table

__all__ = ["LatencyTable", "measure_table"]
