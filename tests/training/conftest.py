"""One thread, and none of the exporter's own log."""

from tests.structure.conftest import _quick  # noqa: F401
