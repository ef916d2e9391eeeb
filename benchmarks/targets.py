"""Ask for many sizes and write down what came out: requested against achieved.

    python benchmarks/targets.py -o docs/results/targets

One run of `ramda prune` for every model, metric and amount. What came out is counted without the
package's cost model: the parameters, and torch's own count of the operations, of the model that
`model.safetensors` loads as. Where a target is refused, what the refusal offers is tried.
targets.json and README.md are written after each run. Runs that are there already, of the same
settings and code, are not repeated.
"""

import argparse
import hashlib
import json
import math
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import ramda_cli
from ramda_cli.config.loading import dump_config, load_config
from ramda_cli.config.schema import RunConfig, TargetConfig
from ramda_cli.errors import RamdaError
from ramda_cli.export import load
from ramda_cli.observer import SilentObserver
from ramda_cli.pipeline.prune import prune
from ramda_cli.report.document import Report
from ramda_cli.report.plain import parse_report

ROOT = Path(__file__).resolve().parent.parent
MODELS = "resnet18,mobilenetv3_small_100,vit_tiny_patch16_224,vgg11_bn"
AMOUNTS = "0.9,0.8,0.7,0.6,0.5,0.4,0.3,0.2,0.1"

Row = dict[str, Any]


def main() -> None:
    """Run what is missing, and write the table after each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "targets.yaml")
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--metrics", default="macs,params")
    parser.add_argument("--amounts", default=AMOUNTS)
    parser.add_argument("--onnx", default="0.5", help="amounts with model.onnx in the proof")
    parser.add_argument("--set", action="append", default=[], dest="sets")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "targets.json"
    rows: dict[str, Row] = json.loads(path.read_text())["runs"] if path.is_file() else {}
    commit = _commit()
    for name, config in _runs(options):
        settings = hashlib.sha256(dump_config(config).encode()).hexdigest()
        again = {"commit": commit, "settings": settings}
        if name not in rows or not again.items() <= rows[name].items():
            rows[name] = again | _run(config)
            path.write_text(json.dumps({"runs": rows}, indent=1) + "\n")
            (options.output / "README.md").write_text(_page(rows))
        print(f"{name}: {_in_short(rows[name])}", flush=True)


def _runs(options: argparse.Namespace) -> Iterator[tuple[str, RunConfig]]:
    for model in options.models.split(","):
        for metric in options.metrics.split(","):
            for amount in options.amounts.split(","):
                asked = {
                    "model.name": model, "target": f"{metric}={amount}",
                    "output.onnx": amount in options.onnx.split(","),
                }  # fmt: skip
                yield f"{model} {metric}={amount}", load_config(options.config, asked, options.sets)


def _run(config: RunConfig) -> Row:
    """Prune to the target; where it is refused, to what is offered."""
    started = time.monotonic()
    row: Row = {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), **_prune(config)}
    offered = re.search(r"--target (\w+)=([\d.]+) or more", row.get("hint") or "")
    if offered is not None:
        target = TargetConfig.model_validate({offered[1]: float(offered[2])})
        row["offered"] = {"amount": float(offered[2])} | _prune(
            config.model_copy(update={"target": target})
        )
    row["seconds"] = round(time.monotonic() - started, 1)
    return row


def _prune(config: RunConfig) -> Row:
    """Prune, and look at what came out, or at where it stopped."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary) / "run"
        output = config.output.model_copy(update={"directory": directory})
        try:
            document = prune(config.model_copy(update={"output": output}), SilentObserver())
        except RamdaError as error:
            # The output directory is there from the start of training on.
            outcome = "failed" if directory.exists() else "refused"
            return {outcome: str(error), "hint": error.hint}
        smaller = load(directory / "model.safetensors")
    report = parse_report(document)
    reached, share = report.reached, config.structure.floor
    floors = {group.name: max(1, math.ceil(share * group.channels)) for group in report.groups}
    least = min(report.groups, key=lambda group: group.kept / floors[group.name])
    return {
        "requested": reached.requested_count,
        "reported": reached.count,
        "counted": _count(smaller, reached.metric, config),
        "least": {"group": least.name, "kept": least.kept, "floor": floors[least.name]},
        "at_floor": sum(group.kept == floors[group.name] for group in report.groups),
        "groups": len(report.groups),
        "widths_agree": _widths_agree(smaller, report, share),
        "proven": report.proof.passed,
        "difference": report.proof.checks[0].relative_difference,
    }


def _count(model: nn.Module, metric: str, config: RunConfig) -> int:
    if metric == "params":
        return sum(parameter.numel() for parameter in model.parameters())
    side = config.data.image_size
    if metric != "macs" or side is None:
        raise ValueError("only macs at a given image size and params are counted afresh")
    # Attention as products of matrices: the counter does not know the fused operator of CPUs.
    plain, counting = sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False)
    with torch.no_grad(), plain, counting as counter:
        model(torch.zeros(1, 3, side, side))
    return counter.get_total_flops() // 2


def _widths_agree(model: nn.Module, report: Report, floor: float) -> bool:
    """Tell whether each layer in the file is as wide as reported, and none below the floor."""
    tensors = model.state_dict()
    return all(
        tensors[f"{layer.name}.weight"].shape[0] == layer.kept >= math.ceil(floor * layer.width)
        for layer in report.layers
    )


def _commit() -> str:
    """Return the last commit that changed what runs here."""
    if Path(ramda_cli.__file__).resolve().parent.parent != ROOT:
        raise SystemExit(f"{ramda_cli.__file__} would run, which is not of {ROOT}: set PYTHONPATH")
    measured = ["ramda_cli", "configs/targets.yaml", "benchmarks/targets.py"]
    found = subprocess.run(
        ["git", "log", "-1", "--format=%h", "--", *measured],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    return found.stdout.strip()


def _page(rows: dict[str, Row]) -> str:
    lines = [
        "# Requested against achieved",
        "",
        "Short runs from random weights on scikit-learn's digits at 32 x 32 pixels, to sizes from",
        "0.9 to 0.1 of dense. The size is the question; accuracy is not, and eight steps teach",
        "little. Achieved is what is counted on the model that `model.safetensors` loads as: its",
        "parameters, or its operations as torch counts them.",
        "",
        *_summary(rows),
        "",
        "`python benchmarks/targets.py -o docs/results/targets` (`configs/targets.yaml`) at"
        f" {_range(rows, 'commit')}, {_range(rows, 'date')},",
        f"on a CPU, {torch.get_num_threads()} of {os.cpu_count()} threads beside other work: the"
        f" seconds, of whole runs, are noisy. torch {torch.__version__}, timm {timm.__version__}.",
    ]  # fmt: skip
    for model in dict.fromkeys(name.split()[0] for name in rows):
        chosen = {name.split()[1]: row for name, row in rows.items() if name.split()[0] == model}
        lines += ["", f"## {model}", "", *_table(chosen)]
    return "\n".join(lines) + "\n"


def _summary(rows: dict[str, Row]) -> list[str]:
    refused = [row for row in rows.values() if "refused" in row]
    tried = [row.get("offered", row) for row in rows.values()]
    results = [row for row in tried if "counted" in row]
    if not results:
        return ["- no run came to an end"]
    deviations = [_deviation(row) for row in results]
    shares = f"from {100 * min(deviations):.2f} % to {100 * max(deviations):.2f} %"
    difference = f"relative differences up to {max(r['difference'] for r in results):.1e} (float64)"
    asked = [row for row in rows.values() if "refused" not in row]
    offered = [row["offered"] for row in refused if "offered" in row]

    def of_all(what: str, holds: Iterable[bool]) -> str:
        return f"- {what}: **{sum(holds)} of {len(tried)}**"

    return [
        f"- {len(rows)} targets asked for: **{sum(map(_is_close, asked))} within 2 %**,"
        f" **{len(refused)} refused before training** as out of reach",
        f"- asked for again as what the refusals offer: {sum(map(_is_close, offered))} of"
        f" {len(offered)} within 2 %; all deviations are {shares}",
        of_all("no group under its floor", (_over_floor(row) >= 1 for row in results)),
        of_all("layers in the file as wide as reported", (r["widths_agree"] for r in results)),
        of_all("the count is the reported one", (r["reported"] == r["counted"] for r in results)),
        of_all("the proof passed", (row["proven"] for row in results)) + f"; {difference}",
    ]


def _table(rows: dict[str, Row]) -> list[str]:
    lines = [
        "| target | requested | achieved | deviation | groups at their floor | nearest to its floor"
        " | proof | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    reasons = []
    for target, row in rows.items():
        if "refused" in row:
            lines.append(f"| {target} | refused | | | | | | |")
            reasons.append(f"{row['refused']}; {row['hint']}.")
        result = row.get("offered", row)
        name = (
            f"{target.partition('=')[0]}={row['offered']['amount']}"
            if result is not row
            else target
        )
        if "failed" in result:
            lines.append(f"| {name} | failed: {result['failed']} | | | | | | |")
        elif "counted" in result:
            lines.append(f"| {name} | {_cells(result)} | {row['seconds']:.0f} |")
    return lines + [line for reason in reasons for line in ("", reason)]


def _cells(result: Row) -> str:
    least = result["least"]
    cells = (
        f"{result['requested']:,}",
        f"{result['counted']:,}",
        f"{100 * _deviation(result):+.2f} %",
        f"{result['at_floor']} of {result['groups']}",
        f"{least['group']}: {least['kept']}, floor {least['floor']}",
        "passed" if result["proven"] else "failed",
    )
    return " | ".join(cells)


def _in_short(row: Row) -> str:
    result = row.get("offered", row)
    if "counted" not in result:
        return result.get("refused") or result["failed"]
    offered = f"refused, {result['amount']} instead: " if result is not row else ""
    return f"{offered}{100 * _deviation(result):+.2f} %, {row['seconds']} s"


def _deviation(result: Row) -> float:
    return result["counted"] / result["requested"] - 1


def _is_close(result: Row) -> bool:
    return "counted" in result and abs(_deviation(result)) <= 0.02


def _over_floor(result: Row) -> float:
    return result["least"]["kept"] / result["least"]["floor"]


def _range(rows: dict[str, Row], key: str) -> str:
    """Return the one value, or the first and the last by date."""
    ordered = sorted(rows.values(), key=lambda row: row["date"])
    first, last = ordered[0][key], ordered[-1][key]
    return first if first == last else f"{first} to {last}"


if __name__ == "__main__":
    main()
