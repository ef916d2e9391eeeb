"""`ramda bench optimizer`: what a step of RAMDA costs beside AdamW."""

from typing import Annotated

import typer

from ramda_cli.cli import options
from ramda_cli.cli.output import print_json, stdout_console, stdout_to_stderr
from ramda_cli.cli.progress import progress
from ramda_cli.config.loading import load_section
from ramda_cli.config.schema import DataConfig, ModelConfig, TrainingConfig

bench = typer.Typer(
    help="Measure what things cost on this machine.", rich_markup_mode="rich", no_args_is_help=True
)

BenchModel = Annotated[str, typer.Option("--model", metavar="MODEL", help=options.MODEL_HELP)]
Batch = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Images per step; 8 on a CPU, 256 elsewhere."),
]
Rounds = Annotated[int, typer.Option("--rounds", min=2, help="Measured steps of each optimizer.")]
WarmUp = Annotated[int, typer.Option("--warm-up", min=0, help="Steps before those.")]
Weight = Annotated[float, typer.Option("--weight", min=0.0, help="Of the group lasso.")]
Reference = Annotated[
    bool, typer.Option("--reference", help="Time RAMDA in torch operations as well.")
]


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
    json: options.Json = False,
) -> None:
    """Time RAMDA's steps and AdamW's in turns, on one model with random weights and inputs.

    Examples:
      ramda bench optimizer --model resnet50 --device cuda
      ramda bench optimizer --model vit_small_patch16_224 --batch-size 2 --reference
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
        )
    if json:
        print_json(measured)
        return
    from ramda_cli.report.bench_view import render_optimizer_bench

    render_optimizer_bench(measured, stdout_console())
