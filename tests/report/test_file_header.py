import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ramda_cli.errors import FileFormatError
from ramda_cli.file_header import read_header, read_header_report
from ramda_cli.report.plain import build_report
from tests.report.sample import REPORT


def written(path: Path, metadata: dict[str, str] | None) -> Path:
    save_file({"weight": np.zeros((4, 4), np.float32)}, path, metadata=metadata)
    return path


def raw(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def stored(document: Any, version: str = "1") -> dict[str, str]:
    return {"format": "pt", "ramda_format": version, "ramda": json.dumps(document)}


def failure(path: Path) -> str:
    with pytest.raises(FileFormatError) as caught:
        read_header_report(path)
    assert caught.value.hint
    assert caught.value.exit_code == 1
    return str(caught.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def test_reads_what_safetensors_writes(path: Path) -> None:
    report = build_report(REPORT)
    written(path, stored({"report": report, "plan": [1]}))
    assert read_header_report(path) == report
    assert read_header(path)["plan"] == [1]


def test_other_writers_are_named(path: Path) -> None:
    assert failure(written(path, None)) == f"{path} was not written by ramda"
    assert failure(written(path, {"format": "pt"})) == f"{path} was not written by ramda"


def test_other_versions_are_refused(path: Path) -> None:
    written(path, stored({"report": {}}, version="2"))
    assert failure(path) == f"{path} has format 2; this version reads 1"


def test_a_file_without_report_is_named(path: Path) -> None:
    assert failure(written(path, stored({}))) == f"{path} holds no report"


def test_missing_files_and_directories_are_named(path: Path, tmp_path: Path) -> None:
    assert failure(path) == f"{path} cannot be read: No such file or directory"
    assert failure(tmp_path) == f"{tmp_path} cannot be read: Is a directory"


@pytest.mark.parametrize("cut", [1, 63, 64, 80])
def test_every_truncation_is_named(path: Path, cut: int) -> None:
    content = written(path, stored({"report": {}})).read_bytes()
    path.write_bytes(content[:-cut])
    found = len(content) - cut
    expected = len(content) if cut <= 64 else len(content) - 64
    assert failure(path) == f"{path} is truncated: {found:,} bytes of at least {expected:,}"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01",
        b"\xff" * 8 + b"{}",
        (100_000_001).to_bytes(8, "little") + b"{}",
        b"PK\x03\x04 a zip file",
    ],
)
def test_other_kinds_of_file_are_named(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert failure(path) == f"{path} is not a safetensors file"


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b'{"a": NaN}',
        b'{"a": 1}',
        b'{"a": {"data_offsets": [0, "x"]}}',
        b'{"a": {"data_offsets": [0]}}',
        b'{"a":' + b"[" * 100_000,
        b'{"\xff": 1}',
        b'{"a": {"data_offsets": [0, ' + b"9" * 5000 + b"]}}",
    ],
)
def test_damaged_headers_are_named(path: Path, header: bytes) -> None:
    assert failure(raw(path, header)) == f"{path} has a damaged header"


@pytest.mark.parametrize("text", ["", "[]", "{", "NaN"])
def test_damaged_documents_are_named(path: Path, text: str) -> None:
    written(path, {"ramda_format": "1", "ramda": text})
    assert failure(path) == f"{path} has a damaged header"


def test_metadata_that_is_not_a_mapping_is_not_ours(path: Path) -> None:
    assert failure(raw(path, b'{"__metadata__": [1]}')) == f"{path} was not written by ramda"
    header = b'{"__metadata__": {"ramda_format": "1"}}'
    assert failure(raw(path, header)) == f"{path} has a damaged header"
