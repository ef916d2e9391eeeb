"""Measure every family of timm and every type of transformers, and write the coverage report.

    python scripts/coverage_report.py                      # all, into docs/results/coverage
    python scripts/coverage_report.py timm:resnet hf:bert  # these; others keep their last figures

Each model runs in a process of its own. What is measured is in `tests/zoo/check.py`. Results are
written after each model, so an interrupted run goes on with --resume where it stopped.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "docs" / "results" / "coverage"
TIMEOUT_S = 1800

Row = dict[str, Any]


def main() -> None:
    """Measure, and write coverage.json and README.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="timm:FAMILY or hf:TYPE; all when not given")
    parser.add_argument("--resume", action="store_true", help="keep what is measured already")
    parser.add_argument("--no-onnx", action="store_true", help="leave ONNX out, which is faster")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if options.one:
        print(json.dumps(_measure(options.one, onnx=not options.no_onnx)))
        return
    path = options.output / "coverage.json"
    document = json.loads(path.read_text()) if path.exists() else {"models": {}}
    rows: dict[str, Row] = document["models"]
    for name in options.models or _all():
        if options.resume and name in rows:
            continue
        rows[name] = {**_in_process(name, onnx=not options.no_onnx), **_when()}
        print(f"{name}: {_in_short(rows[name])}", flush=True)
        known = {key: rows[key] for key in _all() if key in rows}
        _write(options.output, {**_circumstances(), "models": known})


def _all() -> list[str]:
    from tests.zoo.huggingface import TYPES
    from tests.zoo.timm_families import FAMILIES

    return [*(f"timm:{name}" for name in FAMILIES), *(f"hf:{name}" for name in TYPES)]


def _in_process(name: str, *, onnx: bool) -> Row:
    command = [sys.executable, __file__, "--one", name, *([] if onnx else ["--no-onnx"])]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, cwd=ROOT
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no result after {TIMEOUT_S} s"}
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    return {"failed": (done.stderr.strip().splitlines() or ["killed"])[-1]}


def _measure(name: str, *, onnx: bool) -> Row:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    import torch

    from tests.zoo.check import check
    from tests.zoo.huggingface import TYPES
    from tests.zoo.timm_families import FAMILIES

    torch.manual_seed(0)
    library, _, key = name.partition(":")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        if library == "timm":
            family = FAMILIES[key]
            checked = check(
                family.build(), family.inputs(1), Path(directory), source=family.source, onnx=onnx
            )
            variant = family.variant
        else:
            kind = TYPES[key]
            model = kind.build()
            variant = type(model).__name__
            checked = check(
                model, kind.inputs(1), Path(directory), generates=kind.generates, onnx=onnx
            )
    return {
        "variant": variant, **asdict(checked),
        "total_s": round(time.perf_counter() - started, 1),
    }  # fmt: skip


def _when() -> Row:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    return {
        "commit": commit.stdout.strip(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _circumstances() -> Row:
    import timm
    import torch
    import transformers

    return {
        "device": f"cpu, {torch.get_num_threads()} of {os.cpu_count()} threads",
        "versions": {
            "torch": torch.__version__,
            "timm": timm.__version__,
            "transformers": transformers.__version__,
        },
    }


def _write(output: Path, document: Row) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / "coverage.json").write_text(json.dumps(document, indent=1) + "\n")
    (output / "README.md").write_text(_page(document))


def _page(document: Row) -> str:
    rows: dict[str, Row] = document["models"]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    lines = [
        "# Coverage",
        "",
        "Every family of timm and every type of transformers, each in its smallest size with all",
        "parameters and BatchNorm statistics random: 30 % of the channels of **all** groups zeroed",
        "at once, at random, with three seeds; found again, removed, compared in float64; trained",
        "for a step, saved, loaded and compared again; exported to ONNX and run. No figure is from",
        "a trained model.",
        "",
        f"`python scripts/coverage_report.py` at {_range(rows, 'commit')}, {_range(rows, 'date')},",
        f"{document['device']}, {versions}.",
    ]
    for title, library in (("timm", "timm:"), ("transformers", "hf:")):
        chosen = {name: row for name, row in rows.items() if name.startswith(library)}
        if chosen:
            lines += ["", f"## {title}", "", *_summary(list(chosen.values())), "", *_table(chosen)]
    return "\n".join(lines) + "\n"


def _range(rows: dict[str, Row], key: str) -> str:
    """Return the one value, or the first and last by date."""
    ordered = sorted(rows.values(), key=lambda row: row["date"])
    first, last = ordered[0][key], ordered[-1][key]
    return first if first == last else f"{first} to {last}"


def _summary(rows: Sequence[Row]) -> list[str]:
    good = [row for row in rows if "failed" not in row]
    exact = sum(row["error"] <= 1e-9 for row in good)
    own = [row for row in good if row["layout"] == "native"]
    whole = sum(not row["submodules"] for row in own)
    onnx = sum(_has_onnx(row) for row in good)
    lines = [
        f"- exact to 1e-9 in float64: {exact} of {len(rows)}; the zeroing itself moves the outputs"
        f" by {min(row['moved'] for row in good):.1%} of their largest or more",
        f"- in the model's own class: {len(own)} ({whole} by sizes alone, the others with"
        " submodules that run as graphs)",
        f"- a training step, save, load, equal: {sum(row['trains'] for row in good)}",
        f"- ONNX within 1e-4: {onnx} of {sum(row['onnx'] != 'not tried' for row in good)} tried",
        f"- median share in removable groups: parameters {_share(good, 'params_share')}, MACs"
        f" {_share(good, 'macs_share')}",
        "- discovery over export and decomposition, largest:"
        f" {max(row['discover_s'] / row['export_s'] for row in good):.2f}",
    ]
    generated = [row["tokens"] for row in good if row["tokens"] is not None]
    if generated:
        lines.append(f"- the same generated tokens: {sum(generated)} of {len(generated)}")
    return lines


def _share(rows: Sequence[Row], key: str) -> str:
    return f"{median(row[key] for row in rows):.3f}"


def _table(rows: dict[str, Row]) -> list[str]:
    lines = [
        "| | model | groups | parameters | MACs | difference | class | trains | ONNX | export,"
        " discovery, removal (s) | what stays, most first |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        key = name.partition(":")[2]
        if "failed" in row:
            lines.append(f"| {key} | | | | | failed: {row['failed']} | | | | | |")
            continue
        times = f"{row['export_s']:.1f}, {row['discover_s']:.2f}, {row['remove_s']:.2f}"
        onnx = f"{row['onnx']:.0e}" if _has_onnx(row) else _why(row)
        lines.append(
            f"| {key} | {row['variant']} | {row['groups']} | {row['params_share']:.3f} |"
            f" {row['macs_share']:.3f} | {row['error']:.0e} | {_class(row)} |"
            f" {'yes' if row['trains'] else 'no'} | {onnx} | {times} | {_fixed(row)} |"
        )
    return lines


def _has_onnx(row: Row) -> bool:
    return isinstance(row["onnx"], float) and row["onnx"] <= 1e-4


def _why(row: Row) -> str:
    if row["onnx"] == "not tried":
        return "not tried"
    dense = row["onnx_dense"]
    failed = "fails" if isinstance(row["onnx"], str) else f"{row['onnx']:.0e}"
    return f"{failed}; dense: {dense if dense[:1].isdigit() else 'fails too'}"


def _class(row: Row) -> str:
    if row["layout"] != "native":
        return "graph"
    if not row["submodules"]:
        return "own"
    return "own with " + ", ".join(f"{n} {kind}" for kind, n in row["submodules"].items())


def _fixed(row: Row) -> str:
    usual = ("the model's output", "the model's input", "rows of an embedding")
    named = [f"{why} ({n:,})" for why, n in row["fixed"].items() if why not in usual]
    return "; ".join(named[:2])


def _in_short(row: Row) -> str:
    if "failed" in row:
        return f"failed: {row['failed']}"
    return f"{row['error']:.0e}, {row['layout']}, {row['params_share']:.3f}, {row['total_s']} s"


if __name__ == "__main__":
    main()
