"""`ramda prune`: the whole run."""

from pathlib import Path
from typing import Annotated

import typer

from ramda_cli.cli import options
from ramda_cli.cli.output import show_report, stdout_to_stderr
from ramda_cli.cli.progress import progress
from ramda_cli.config.loading import load_config
from ramda_cli.config.schema import OutputConfig
from ramda_cli.errors import ConfigError


def prune(
    model: options.OptionalModel = None,
    config_file: options.ConfigFile = None,
    sets: options.Sets = None,
    weights: options.Weights = None,
    pretrained: options.Pretrained = None,
    task: options.TaskFlag = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    train_split: options.TrainSplit = None,
    val_split: options.ValSplit = None,
    input_key: options.InputKey = None,
    target_key: options.TargetKey = None,
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    image_size: options.ImageSize = None,
    max_length: options.MaxLength = None,
    limit: options.Limit = None,
    augment: options.Augment = None,
    random_erasing: options.RandomErasing = None,
    target: options.Target = None,
    weight: options.Weight = None,
    regularizer: options.RegularizerFlag = None,
    penalize: options.PenalizeFlag = None,
    keep: options.Keep = None,
    low_rank: options.LowRank = None,
    residual: options.Residual = None,
    floor: options.Floor = None,
    round_to: options.RoundTo = None,
    layout: options.LayoutFlag = None,
    method: options.MethodFlag = None,
    epochs: options.Epochs = None,
    max_steps: options.MaxSteps = None,
    accumulate: options.Accumulate = None,
    auto_batch: options.AutoBatch = None,
    recover_epochs: options.RecoverEpochs = None,
    lr: options.LearningRate = None,
    momentum: options.Momentum = None,
    milestones: options.Milestones = None,
    mixup: options.Mixup = None,
    cutmix: options.Cutmix = None,
    distill: options.Distill = None,
    precision: options.PrecisionFlag = None,
    device: options.Device = None,
    seed: options.Seed = None,
    output: options.Output = None,
    overwrite: options.Overwrite = None,
    resume: options.Resume = False,
    report_to: options.ReportTo = None,
    onnx: options.Onnx = None,
    bench: Annotated[
        bool | None,
        typer.Option(
            "--bench/--no-bench",
            rich_help_panel="Output",
            help="Measure latency for the report, about 10 s; always with a latency target.",
            show_default=False,
        ),
    ] = None,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            "--push-to-hub",
            metavar="ORG/NAME",
            rich_help_panel="Output",
            help="Upload the result to the Hugging Face hub, into a private repository; "
            "HF_TOKEN or `hf auth login` says whose.",
        ),
    ] = None,
    public: Annotated[
        bool | None,
        typer.Option(
            "--public/--private",
            rich_help_panel="Output",
            help="Who sees a repository that --push-to-hub creates; one that exists already keeps"
            " its own setting.",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Fine-tune MODEL until whole channels are zero, remove them, prove that nothing changed.

    A proof that fails, and a target that cannot be reached, is exit 3. Ctrl-C and SIGTERM finish
    the step and keep what --resume goes on with; that is exit 130.

    Examples:
      ramda prune digits-resnet --data digits --target macs=0.5 -o out
      ramda prune resnet50 --data imagenet --data-dir /data --target params=10M
      ramda prune ./bert --task text-classification --data reviews.csv --target macs=0.5
      ramda prune net.py:build --weights net.safetensors --data photos --weight 1e-5
      ramda prune resnet50 --data imagenet --low-rank '*' --target params=0.5
      ramda prune --config configs/digits.yaml --set training.epochs=5
      ramda prune --resume -o out
    """
    overrides: dict[str, object] = {
        "model.name": model,
        "model.weights": weights,
        "model.pretrained": pretrained,
        "model.task": task,
        "data.name": data,
        "data.data_dir": data_dir,
        "data.train_split": train_split,
        "data.val_split": val_split,
        "data.input_key": input_key,
        "data.target_key": target_key,
        "data.batch_size": batch_size,
        "data.workers": workers,
        "data.image_size": image_size,
        "data.max_length": max_length,
        "data.limit": limit,
        "data.augment": augment,
        "data.random_erasing": random_erasing,
        "target": target,
        "training.weight": weight,
        "training.regularizer": regularizer,
        "structure.penalize": penalize,
        "structure.keep": keep,
        "structure.low_rank": low_rank,
        "structure.residual": residual,
        "structure.floor": floor,
        "structure.round_to": round_to,
        "structure.layout": layout,
        "training.method": method,
        "training.epochs": epochs,
        "training.max_steps": max_steps,
        "training.accumulate": accumulate,
        "training.auto_batch": auto_batch,
        "training.recover_epochs": recover_epochs,
        "training.lr": lr,
        "training.momentum": momentum,
        "training.milestones": _parse_milestones(milestones),
        "training.mixup": mixup,
        "training.cutmix": cutmix,
        "training.distill": distill,
        "training.precision": precision,
        "training.device": device,
        "training.seed": seed,
        "output.directory": output,
        "output.overwrite": overwrite,
        "output.report_to": report_to,
        "output.onnx": onnx,
        "output.bench": bench,
        "output.push_to_hub": push_to_hub,
        "output.public": public,
    }
    if resume and model is None and config_file is None:
        config_file = interrupted_config(output)
    config = load_config(config_file, overrides, sets or ())
    with stdout_to_stderr(), progress() as observer:
        observer.stage("start", "loading libraries")
        from ramda_cli.pipeline import prune as run

        report = run(config, observer, resume=resume)
    if report:  # the first of several processes has it
        show_report(report, json=json)


def interrupted_config(output: Path | None) -> Path:
    """Return the configuration of the run that an output directory holds.

    Raises:
        ConfigError: there is none.
    """
    directory = output or OutputConfig().directory
    path = directory / "config.yaml"
    if not path.is_file():
        raise ConfigError(
            f"{directory} holds no run to go on with", hint="name its directory with -o"
        )
    return path


def _parse_milestones(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"--milestones must be epochs separated by commas, got {text!r}",
            hint="for example --milestones 30,60",
        ) from error
