"""How long smaller models take, measured operator by operator before there is one."""

from ramda_cli.latency.table import LatencyTable, measure_table, model_of_widths

__all__ = ["LatencyTable", "measure_table", "model_of_widths"]
