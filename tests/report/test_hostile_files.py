"""Files that lie: one error for the user, whatever is in them."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from ramda_cli.errors import RamdaError
from ramda_cli.export import read_probe
from ramda_cli.file_header import read_header_report
from ramda_cli.report.comparison import comparison_markdown
from ramda_cli.report.gate import Limits, judge
from ramda_cli.report.html import render_html
from ramda_cli.report.markdown import render_markdown
from ramda_cli.report.plain import build_report, parse_report
from ramda_cli.report.terminal import render_terminal
from tests.report.sample import REPORT

quietly = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20)
)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3)
)


LIMITS = Limits(params=1, macs=1, drop=0.0, metric=0.5, speedup=1.5, latency_ms=1.0)


def _file(header: object, *, length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text


def _of(report: object) -> dict[str, Any]:
    metadata = {"ramda_format": "1", "ramda": json.dumps({"report": report})}
    return {"__metadata__": metadata}


def _show(document: object) -> None:
    """Show a document in every way; only errors for the user may come out."""
    console = Console(file=io.StringIO(), width=80)
    for show in (
        lambda: render_terminal(document, console),
        lambda: render_markdown(document),
        lambda: render_html(document),
        lambda: comparison_markdown(document, document),
        lambda: judge(parse_report(document), LIMITS),
    ):
        with contextlib.suppress(RamdaError):
            show()


def _paths(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children: list[tuple[Any, object]] = []
    if isinstance(value, dict):
        children = [*value.items()]
    elif isinstance(value, list):
        children = [*enumerate(value)]
    return [path, *(p for key, child in children for p in _paths(child, (*path, key)))]


DOCUMENT = json.loads(json.dumps(build_report(REPORT)))
PATHS = [path for path in _paths(DOCUMENT) if path]


@quietly
@given(path=st.sampled_from(PATHS), value=values)
def test_a_field_of_any_value_is_shown_or_refused(path: tuple[Any, ...], value: object):
    document = json.loads(json.dumps(DOCUMENT))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    _show(document)


PROBE = {
    "seed": 0,
    "inputs": {
        "dict": {
            "x": {"uniform": {"dtype": "float32", "shape": [2, 3]}},
            "ids": {"tensor": {"dtype": "int64", "shape": [2], "values": [3, 8]}},
            "more": {"tuple": [[False], None, 0.5]},
        }
    },
    "checksum": "edee82b970da7a77f252bc9f4de8f9a7070379558b7239c931eb4823c5bdd2e8",
    "outputs": [{"shape": [2], "step": 1, "values": [0.5, -1.0], "largest": 1.0, "rms": 0.8}],
}
assert read_probe({"probe": PROBE}) is not None
PROBE_PATHS = [path for path in _paths(PROBE) if path]


@quietly
@given(path=st.sampled_from(PROBE_PATHS), value=values)
def test_a_probe_of_any_value_is_read_or_refused(path: tuple[Any, ...], value: object):
    document = json.loads(json.dumps({"probe": PROBE}))
    place = document["probe"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with contextlib.suppress(RamdaError):
        read_probe(document)


@quietly
@given(data=st.data())
def test_bytes_that_changed_are_read_or_refused(data: st.DataObject, tmp_path: Path):
    content = bytearray(_file(_of(DOCUMENT)))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    path = tmp_path / "model.safetensors"
    path.write_bytes(content[:end])
    with contextlib.suppress(RamdaError):
        _show(read_header_report(path))


@quietly
@given(header=values)
def test_a_header_of_any_json_is_read_or_refused(header: object, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    try:
        path.write_bytes(_file(header))
    except ValueError:  # an integer that json does not write
        return
    with contextlib.suppress(RamdaError):
        read_header_report(path)


@pytest.mark.parametrize("length", [0, 1, 99_999_999, 100_000_001, 2**40, 2**63 - 1, 2**64 - 1])
def test_a_length_is_believed_only_as_far_as_the_file_goes(length: int, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(_file(_of(DOCUMENT), length=length))
    with pytest.raises(RamdaError):
        read_header_report(path)


def test_deep_nesting_is_refused(tmp_path: Path):
    text = ("[" * 100_000).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes((len(text) + 1).to_bytes(8, "little") + b"{" + text)
    with pytest.raises(RamdaError):
        read_header_report(path)
