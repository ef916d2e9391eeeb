"""`ramda check`: a gate for CI."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ramda_cli.cli import options
from ramda_cli.cli.output import model_file, print_json, stdout_to_stderr, write_text
from ramda_cli.cli.progress import progress
from ramda_cli.cli.verdicts import render_verdicts
from ramda_cli.config.loading import load_section
from ramda_cli.config.schema import TrainingConfig
from ramda_cli.config.targets import parse_count
from ramda_cli.errors import ConfigError, GateError
from ramda_cli.file_header import read_header_report
from ramda_cli.report.document import Latency
from ramda_cli.report.gate import Limits, judge, junit
from ramda_cli.report.plain import parse_benchmark, parse_report

MaxParams = Annotated[
    str | None,
    typer.Option("--max-params", metavar="COUNT", help="Most parameters, such as 10M."),
]
MaxMacs = Annotated[
    str | None,
    typer.Option("--max-macs", metavar="COUNT", help="Most MACs of one input, such as 2G."),
]
MaxSize = Annotated[
    float | None,
    typer.Option("--max-size-mb", min=0.0, help="Largest model.safetensors, in 10^6 bytes."),
]
MaxDrop = Annotated[
    float | None,
    typer.Option(
        "--max-drop", help="Most points (hundredths) below the pretrained model's metric."
    ),
]
MinMetric = Annotated[
    float | None, typer.Option("--min-metric", help="Least metric, a share such as 0.75.")
]
MinSpeedup = Annotated[
    float | None,
    typer.Option(
        "--min-speedup",
        min=0.0,
        help="Least ratio of the dense model's latency to the pruned one's; above 1 its spread"
        " must be too.",
    ),
]
MaxLatency = Annotated[
    float | None,
    typer.Option("--max-latency-ms", min=0.0, help="Most milliseconds of the median call."),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        help="Where these two are judged; the largest measured for the speed-up, the smallest for"
        " the latency.",
    ),
]
Measure = Annotated[
    bool,
    typer.Option("--measure", help="Measure latency now and here, in torch, not from the file."),
]


def check(
    file: options.PrunedFile,
    max_params: MaxParams = None,
    max_macs: MaxMacs = None,
    max_size_mb: MaxSize = None,
    max_drop: MaxDrop = None,
    min_metric: MinMetric = None,
    min_speedup: MinSpeedup = None,
    max_latency_ms: MaxLatency = None,
    batch_size: BatchSize = None,
    measure: Measure = False,
    device: options.Device = None,
    junit_file: options.Junit = None,
    json: options.Json = False,
) -> None:
    """Demand things of a pruned model; exit 3 if one does not hold. The proof must have passed.

    The figures are those in the file, unless --measure takes the latency anew.

    Examples:
      ramda check out --max-params 10M --max-macs 2G --max-drop 0.5
      ramda check out/model.safetensors --min-metric 0.75 --junit check.xml
      ramda check out --min-speedup 1.3 --batch-size 32 --measure --device cpu
    """
    if min_metric is not None and not 0.0 <= min_metric <= 1.0:
        raise ConfigError(
            f"--min-metric is a share in [0, 1], got {min_metric:g}",
            hint=f"for example --min-metric {min_metric / 100:g}",
        )
    path = model_file(file)
    limits = Limits(
        params=parse_count("--max-params", max_params),
        macs=parse_count("--max-macs", max_macs),
        size_bytes=None if max_size_mb is None else 1e6 * max_size_mb,
        drop=max_drop,
        metric=min_metric,
        speedup=min_speedup,
        latency_ms=max_latency_ms,
        batch_size=batch_size,
    )
    report = parse_report(read_header_report(path))
    if measure:
        report = replace(report, latency=_latency(path, batch_size, device))
    verdicts = judge(report, limits)
    if junit_file is not None:
        suite = f"ramda check {path.name}"
        write_text(junit_file, junit(verdicts, suite=suite), flag="--junit")
    if json:
        lines = [{"name": v.name, "passed": v.passed, "text": v.text} for v in verdicts]
        print_json({"passed": all(v.passed for v in verdicts), "checks": lines})
    else:
        render_verdicts(verdicts)
    failed = [verdict for verdict in verdicts if not verdict.passed]
    if failed:
        raise GateError(
            f"{failed[0].name} does not hold: {failed[0].text}",
            hint="prune to a smaller target, or train longer; `ramda report` shows all figures",
        )


def _latency(path: Path, batch_size: int | None, device: str | None) -> Latency:
    chosen = load_section(TrainingConfig, "training", {"device": device}).device
    with stdout_to_stderr(), progress() as observer:
        observer.stage("start", "loading libraries")
        from ramda_cli.pipeline import bench

        sizes = [] if batch_size is None else [batch_size]
        measured = bench(
            path, observer=observer, device=chosen, runtimes=["eager"], batch_sizes=sizes
        )
    return parse_benchmark(measured).latency
