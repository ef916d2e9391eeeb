"""docs/report.md names every key of the document, and no other."""

import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path

from ramda_cli.report.document import Report

PAGE = Path(__file__).resolve().parents[2] / "docs" / "report.md"


def keys(kind: type) -> Iterator[str]:
    """Yield the fields of a dataclass and of those within it."""
    for name, hint in typing.get_type_hints(kind).items():
        yield name
        for inner in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(inner) and isinstance(inner, type):
                yield from keys(inner)


def test_every_key_is_documented() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3] == "| `"]
    sections = [re.findall(r"`(.*?)`", row)[0] for row in rows]
    assert [name for name in sections if "." not in name] == [
        field.name for field in dataclasses.fields(Report)
    ]
    words = {word.rpartition(".")[2] for row in rows for word in re.findall(r"`([\w.]+)`", row)}
    expected = set(keys(Report))
    assert expected - words == set()
    values = {"timm", "huggingface", "file", "package", "uniform", "eager", "compile"}
    values |= {"size_mb", "onnx"}
    assert words - expected - values == set()
