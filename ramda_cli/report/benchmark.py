"""What `ramda bench FILE` measured, as a JSON document with a stable shape and key order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ramda_cli.report.document import SCHEMA, Latency


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The speed of a pruned model.

    Attributes:
        file: as it was given.
        dense: what the dense model was built from; null when it was not measured.
        latency: the measurements, runtime by runtime.
        versions: of what computed.
        date: in UTC.
        notes: sentences for the user.
    """

    schema: Literal[1] = SCHEMA
    file: str
    dense: str | None
    latency: Latency
    versions: Mapping[str, str]
    date: str
    notes: tuple[str, ...] = ()
