"""`ramda remove`: strip a checkpoint that another tool has zeroed."""

from pathlib import Path
from typing import Annotated

import typer

from ramda_cli.cli import options
from ramda_cli.cli.output import show_report, stdout_to_stderr
from ramda_cli.cli.progress import progress
from ramda_cli.config.loading import load_section
from ramda_cli.config.schema import DataConfig, ModelConfig, OutputConfig, RemoveConfig

CheckpointPath = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A .safetensors state dict, or a directory with config.json and model.safetensors.",
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        rich_help_panel="Model",
        help="Whose state dict it is: a timm name, path/to/file.py:factory or digits-resnet; the"
        " directory's own by default.",
    ),
]


def remove(
    checkpoint: CheckpointPath,
    model: ModelName = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    train_split: options.TrainSplit = None,
    val_split: options.ValSplit = None,
    input_key: options.InputKey = None,
    target_key: options.TargetKey = None,
    batch_size: options.EvalBatchSize = None,
    workers: options.Workers = None,
    image_size: options.ImageSize = None,
    keep: options.Keep = None,
    output: options.Output = None,
    overwrite: options.Overwrite = None,
    onnx: options.Onnx = None,
    json: options.Json = False,
) -> None:
    """Remove the channels that another tool has zeroed in CHECKPOINT, and prove it.

    Channels go that are zero where they are made or where they are read, and those of which only
    a constant is left; the masks of torch.nn.utils.prune are applied. Nothing is trained.

    Examples:
      ramda remove pruned.safetensors --model resnet18 -o out
      ramda remove pruned.safetensors --model net.py:build --data photos -o out
      ramda remove path/to/bert -o out
    """
    settings = {
        "name": data or "-",
        "image_size": image_size,
        "data_dir": data_dir,
        "train_split": train_split,
        "val_split": val_split,
        "input_key": input_key,
        "target_key": target_key,
        "eval_batch_size": batch_size,
        "workers": workers,
    }
    files = {"directory": output, "overwrite": overwrite, "onnx": onnx}
    named = None if model is None else load_section(ModelConfig, "model", {"name": model})
    images = load_section(DataConfig, "data", settings)
    config = RemoveConfig(
        checkpoint=checkpoint,
        model=None if named is None else named.name,
        image_size=images.image_size,
        data=None if data is None else images,
        keep=tuple(keep or ()),
        output=load_section(OutputConfig, "output", files),
    )
    with stdout_to_stderr(), progress() as observer:
        observer.stage("start", "loading libraries")
        from ramda_cli.pipeline import remove as run

        report = run(config, observer)
    show_report(report, json=json)
