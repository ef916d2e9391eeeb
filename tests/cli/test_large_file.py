"""A report costs no more than its header, however large the file is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ramda_cli.report.plain import build_report
from tests.report.sample import REPORT

BYTES = 400_000_000
SCRIPT = """
import sys, time
started = time.monotonic()
from ramda_cli.cli.app import main
try:
    main()
finally:
    with open("/proc/self/status") as status:  # ru_maxrss would be the parent's
        kilobytes = next(line.split()[1] for line in status if line.startswith("VmHWM"))
    heavy = {"torch", "onnxruntime", "transformers", "timm"} & sys.modules.keys()
    print(time.monotonic() - started, kilobytes, *sorted(heavy), file=sys.stderr)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("format", ["terminal", "json", "markdown", "html"])
def test_a_report_reads_the_header_alone(tmp_path: Path, format: str) -> None:
    path = tmp_path / "model.safetensors"
    document = json.dumps({"report": build_report(REPORT)})
    header = {
        "__metadata__": {"ramda_format": "1", "ramda": document},
        "weight": {"dtype": "F32", "shape": [BYTES // 4], "data_offsets": [0, BYTES]},
    }
    text = json.dumps(header).encode()
    with path.open("wb") as file:  # sparse: nobody reads what follows
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + BYTES)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "report", str(path), "--format", format],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "360 validation images" in done.stdout
    seconds, kilobytes, *heavy = done.stderr.split()
    assert heavy == []
    assert int(kilobytes) < 200_000
    assert float(seconds) < 10, "on a quiet machine it takes 0.3 s, and 0.8 s for HTML"
