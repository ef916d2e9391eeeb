"""Typed sections to plain JSON values, and back with every field checked."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from ramda_cli.errors import FileFormatError
from ramda_cli.report.benchmark import Benchmark
from ramda_cli.report.document import SCHEMA, Report
from ramda_cli.report.inspection import Inspection
from ramda_cli.report.methods import MethodComparison
from ramda_cli.report.sweep import Sweep

_Document = TypeVar("_Document", Report, Inspection, Benchmark, Sweep, MethodComparison)
_TOO_LARGE: Final = 2**63


def build_report(report: Report) -> dict[str, object]:
    """Return the report as the JSON document that is stored and printed."""
    return _document(report)


def build_inspection(inspection: Inspection) -> dict[str, object]:
    """Return an inspection as the JSON document that is printed."""
    return _document(inspection)


def build_benchmark(benchmark: Benchmark) -> dict[str, object]:
    """Return a benchmark as the JSON document that is printed."""
    return _document(benchmark)


def build_sweep(sweep: Sweep) -> dict[str, object]:
    """Return a sweep as the JSON document that is stored and printed."""
    return _document(sweep)


def build_comparison(comparison: MethodComparison) -> dict[str, object]:
    """Return a comparison of methods as the JSON document that is stored and printed."""
    return _document(comparison)


def parse_report(document: object) -> Report:
    """Return the typed report of a document that may come from anywhere.

    Keys that this version does not know are ignored.

    Raises:
        FileFormatError: if its schema is another one, or a field is missing or of a wrong type.
    """
    return _parse(Report, document, "report")


def parse_inspection(document: object) -> Inspection:
    """Return the typed inspection of a document; errors as `parse_report`."""
    return _parse(Inspection, document, "inspection")


def parse_benchmark(document: object) -> Benchmark:
    """Return the typed benchmark of a document; errors as `parse_report`."""
    return _parse(Benchmark, document, "benchmark")


def parse_sweep(document: object) -> Sweep:
    """Return the typed sweep of a document; errors as `parse_report`."""
    return _parse(Sweep, document, "sweep")


def parse_comparison(document: object) -> MethodComparison:
    """Return the typed comparison of a document; errors as `parse_report`."""
    return _parse(MethodComparison, document, "comparison")


def _parse(kind: type[_Document], document: object, name: str) -> _Document:
    schema = document.get("schema") if isinstance(document, Mapping) else None
    if schema != SCHEMA:
        raise FileFormatError(
            f"the {name} has schema {schema}; this version reads {SCHEMA}",
            hint="update with `pip install --upgrade ramda-cli`, or write the file again",
        )
    if _holds_huge_number(document):
        raise FileFormatError(
            f"the {name} is damaged: it holds an integer beyond 64 bits",
            hint="write the file again with `ramda prune`",
        )
    try:
        return TypeAdapter(kind).validate_python(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FileFormatError(
            f"the {name} is damaged at {where}: {first['msg']}",
            hint="write the file again with `ramda prune`",
        ) from error


def _holds_huge_number(document: object) -> bool:
    # JSON's integers are as long as they like, and no float is: dividing them would overflow.
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, int) and abs(value) >= _TOO_LARGE:
            return True
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
    return False


def _document(
    value: Report | Inspection | Benchmark | Sweep | MethodComparison,
) -> dict[str, object]:
    fields = dataclasses.fields(value)
    return {field.name: _plain(getattr(value, field.name)) for field in fields}


def _plain(value: object) -> object:
    """Return `value` as JSON has it: lists, string keys, and null for what is not finite."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: _plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
