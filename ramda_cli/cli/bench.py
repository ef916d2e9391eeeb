"""`ramda bench FILE`: how fast a pruned model is; `ramda bench optimizer`: what a step costs."""

from enum import StrEnum
from typing import Annotated, Any

import typer
import typer.core

from ramda_cli.cli import options
from ramda_cli.cli.output import model_file, print_json, stdout_console, stdout_to_stderr
from ramda_cli.cli.progress import progress
from ramda_cli.config.loading import load_section
from ramda_cli.config.schema import DataConfig, ModelConfig, TrainingConfig

_FILE = "FILE"


class _FileOrCommand(typer.core.TyperGroup):
    """A group that takes what is not the name of a command for a file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command of a file first where no command is named."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = [_FILE, *args]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Show both ways in the usage line."""
        return [f"({_FILE} | optimizer) [OPTIONS]"]


class _FileCommand(typer.core.TyperCommand):
    """The command of a file; in the usage line its name stands for its argument."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Leave the argument out."""
        return ["[OPTIONS]"]


bench = typer.Typer(cls=_FileOrCommand, rich_markup_mode="rich")


@bench.callback(invoke_without_command=True)
def _bench(context: typer.Context) -> None:
    """Measure what things cost on this machine.

    Both models are timed in one process, so that what else runs slows both.

    Examples:
      ramda bench out/model.safetensors
      ramda bench optimizer --model resnet50
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


class RuntimeName(StrEnum):
    """What runs a model; Typer takes no list of a Literal."""

    eager = "eager"
    compile = "compile"
    onnx = "onnx"


Runtimes = Annotated[
    list[RuntimeName] | None,
    typer.Option(
        "--runtime",
        help="torch eagerly, torch.compile, ONNX Runtime; repeatable."
        " [dim]\\[default: eager and, on a CPU, onnx][/dim]",
    ),
]
BatchSizes = Annotated[
    list[int] | None,
    typer.Option(
        "--batch-size",
        min=1,
        help="Inputs of a call; repeatable. [dim]\\[default: 1 and 32, 1 and 256 on CUDA][/dim]",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Of torch and ONNX Runtime on a CPU; torch's own count."),
]
Seconds = Annotated[
    float, typer.Option("--seconds", min=0.1, help="For all measurements together, about.")
]
Dense = Annotated[
    str | None,
    typer.Option(
        "--dense",
        metavar="FILE.py:FACTORY",
        help="The dense model, where the file does not know it; the code is executed.",
    ),
]

BenchModel = Annotated[str, typer.Option("--model", metavar="MODEL", help=options.MODEL_HELP)]
Batch = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Images per step; 8 on a CPU, 256 elsewhere."),
]
Rounds = Annotated[int, typer.Option("--rounds", min=2, help="Measured steps of each optimizer.")]
WarmUp = Annotated[int, typer.Option("--warm-up", min=0, help="Steps before those.")]
Weight = Annotated[
    float, typer.Option("--weight", min=0.0, help="Of the group lasso, and the nuclear norm.")
]
Reference = Annotated[
    bool, typer.Option("--reference", help="Time RAMDA in torch operations as well.")
]

LowRank = Annotated[
    bool, typer.Option("--low-rank", help="Time RAMDA with a nuclear norm on every weight, too.")
]


@bench.command(_FILE, cls=_FileCommand)
def bench_file(
    file: options.PrunedFile,
    runtime: Runtimes = None,
    batch_size: BatchSizes = None,
    device: options.Device = None,
    threads: Threads = None,
    seconds: Seconds = 20.0,
    dense: Dense = None,
    json: options.Json = False,
) -> None:
    """Time a pruned model and the dense one in turns: latency, throughput, and the ratio.

    The dense model is built from what the file says of it, with random weights.

    Examples:
      ramda bench out/model.safetensors
      ramda bench out --runtime eager --runtime compile --batch-size 1 --batch-size 64
      ramda bench out --device cuda --json
      ramda bench out --dense net.py:build
    """
    chosen = load_section(TrainingConfig, "training", {"device": device}).device
    path = model_file(file)
    with stdout_to_stderr(), progress() as observer:
        observer.stage("start", "loading libraries")
        from ramda_cli.pipeline import bench as run

        measured = run(
            path,
            observer=observer,
            device=chosen,
            runtimes=[each.value for each in runtime or ()],
            batch_sizes=batch_size or [],
            threads=threads,
            seconds=seconds,
            dense=dense,
        )
    if json:
        print_json(measured)
        return
    from ramda_cli.report.bench_view import render_bench

    render_bench(measured, stdout_console())


@bench.command("optimizer")
def bench_optimizer(
    model: BenchModel = "resnet50",
    device: options.Device = None,
    batch_size: Batch = None,
    image_size: options.ImageSize = None,
    rounds: Rounds = 30,
    warm_up: WarmUp = 30,
    weight: Weight = 1e-5,
    reference: Reference = False,
    low_rank: LowRank = False,
    json: options.Json = False,
) -> None:
    """Time RAMDA's steps and AdamW's in turns, on one model with random weights and inputs.

    Both run in one process, so that what else runs slows both.

    Examples:
      ramda bench optimizer --model resnet50 --device cuda
      ramda bench optimizer --model vit_small_patch16_224 --batch-size 2 --low-rank
    """
    source = load_section(ModelConfig, "model", {"name": model, "pretrained": False})
    chosen = load_section(TrainingConfig, "training", {"device": device}).device
    # Checked as the setting it is; the inputs are random.
    load_section(DataConfig, "data", {"name": "-", "image_size": image_size})
    with stdout_to_stderr(), progress() as observer:
        observer.stage("load", source.name)
        from ramda_cli.pipeline import bench_optimizer as run

        measured = run(
            source,
            device=chosen,
            observer=observer,
            batch=batch_size,
            image_size=image_size,
            rounds=rounds,
            warm_up=warm_up,
            weight=weight,
            reference=reference,
            low_rank=low_rank,
        )
    if json:
        print_json(measured)
        return
    from ramda_cli.report.bench_view import render_optimizer_bench

    render_optimizer_bench(measured, stdout_console())
