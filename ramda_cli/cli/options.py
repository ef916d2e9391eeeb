"""The flags that more than one command takes, or that name a setting of the configuration.

A flag that was not given is None, so that the configuration file and its defaults hold.
"""

from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import BaseModel

from ramda_cli.config.schema import (
    DataConfig,
    Layout,
    Method,
    Penalize,
    Precision,
    RegularizerName,
    StructureConfig,
    TaskName,
    TrainingConfig,
)

CONTEXT: Final = {"help_option_names": ["-h", "--help"]}
MODEL_HELP: Final = (
    "A timm name, hf-hub:org/name, a directory of timm or transformers,"
    " path/to/file.py:factory, or what ships with ramda: digits-resnet, transformer-xl, tacotron2."
)
_DATA_HELP: Final = (
    "digits, a directory of class folders, imagenet, torch/NAME, a parquet file or directory, for"
    " text models CSV, JSON lines or text files too, or a Hugging Face data set id."
)


def _option(*names: str, panel: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, help=help, **more)


def _setting(
    section: type[BaseModel], field: str, *names: str, panel: str, help: str, **more: Any
) -> Any:
    """Return the flag of a setting, its help with the setting's own default."""
    default = section.model_fields[field].default
    shown = "" if default is None else f" [dim]\\[default: {default}][/dim]"
    return _option(*names, panel=panel, help=help + shown, **more)


Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP, show_default=False)]
OptionalModel = Annotated[
    str | None, typer.Argument(metavar="MODEL", help=MODEL_HELP, show_default=False)
]
PrunedFile = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="A model.safetensors that ramda wrote, or its directory."),
]

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML settings; flags override them."),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting: training.eps=1e-7; repeatable."),
]

Weights = Annotated[
    Path | None,
    _option("--weights", panel="Model", help="A safetensors state dict to start from."),
]
Pretrained = Annotated[
    bool | None,
    _option(
        "--pretrained/--no-pretrained",
        panel="Model",
        help="Start from the pretrained weights.",
        show_default=False,
    ),
]

TaskFlag = Annotated[
    TaskName | None,
    _option(
        "--task",
        panel="Model",
        help="What a transformers model is to do; what its architecture does by default.",
    ),
]

RequiredData = Annotated[str, _option("--data", panel="Data", metavar="DATA", help=_DATA_HELP)]
Data = Annotated[str | None, _option("--data", panel="Data", metavar="DATA", help=_DATA_HELP)]
DataDir = Annotated[
    Path | None,
    _option("--data-dir", panel="Data", help="Where imagenet or torch/NAME is or is stored."),
]
TrainSplit = Annotated[
    str | None, _option("--train-split", panel="Data", help="Training split; found by default.")
]
ValSplit = Annotated[
    str | None, _option("--val-split", panel="Data", help="Validation split; found by default.")
]
InputKey = Annotated[
    str | None,
    _option(
        "--input-key",
        panel="Data",
        help="Column of images or texts, two texts as a,b; found by default.",
    ),
]
TargetKey = Annotated[
    str | None,
    _option("--target-key", panel="Data", help="Column of classes or answers; found by default."),
]
BatchSize = Annotated[
    int | None,
    _setting(DataConfig, "batch_size", "--batch-size", panel="Data", help="Inputs per step."),
]
EvalBatchSize = Annotated[
    int | None,
    _setting(DataConfig, "eval_batch_size", "--batch-size", panel="Data", help="Inputs at once."),
]
BatchSizeOfRun = Annotated[
    int | None,
    _option("--batch-size", panel="Data", help="Inputs at once; as in the run by default."),
]
Workers = Annotated[
    int | None,
    _setting(DataConfig, "workers", "--workers", panel="Data", help="Loader processes."),
]
ImageSize = Annotated[
    int | None,
    _option("--image-size", panel="Data", help="Square side in pixels; the model's by default."),
]
MaxLength = Annotated[
    int | None,
    _option(
        "--max-length",
        panel="Data",
        help="Most tokens of a text; 128, for a language model 256, by default.",
    ),
]
Augment = Annotated[
    str | None,
    _setting(
        DataConfig,
        "augment",
        "--augment",
        panel="Data",
        metavar="POLICY",
        help="none, or a policy of timm on top of auto, such as rand-m9-mstd0.5-inc1.",
    ),
]
RandomErasing = Annotated[
    float | None,
    _setting(
        DataConfig,
        "random_erasing",
        "--random-erasing",
        panel="Data",
        help="Probability that a rectangle of an image becomes noise, such as 0.25.",
    ),
]
Limit = Annotated[
    int | None,
    _option("--limit", panel="Data", help="Use only so many training examples, for a quick try."),
]

PenalizeFlag = Annotated[
    Penalize | None,
    _setting(
        StructureConfig,
        "penalize",
        "--penalize",
        panel="What goes",
        help="The slices the regularizer sees.",
    ),
]
Keep = Annotated[
    list[str] | None,
    _option(
        "--keep",
        panel="What goes",
        metavar="PATTERN",
        help="Groups that are never removed, a glob such as 'layer4*'; repeatable.",
    ),
]
LowRank = Annotated[
    list[str] | None,
    _option(
        "--low-rank",
        panel="What goes",
        metavar="PATTERN",
        help="Layers whose weights lose ranks and no channels, a glob such as '*'; repeatable.",
    ),
]
Residual = Annotated[
    bool | None,
    _option(
        "--residual/--no-residual",
        panel="What goes",
        help="Let widths shrink that only RMSNorms normalise, such as a Llama's residual stream.",
        show_default=False,
    ),
]
Floor = Annotated[
    float | None,
    _setting(
        StructureConfig,
        "floor",
        "--floor",
        panel="What goes",
        help="Share of every width that is always kept.",
    ),
]
RoundTo = Annotated[
    int | None,
    _setting(
        StructureConfig,
        "round_to",
        "--round-to",
        panel="What goes",
        help="Keep widths at multiples of this, such as 8.",
    ),
]
LayoutFlag = Annotated[
    Layout | None,
    _setting(
        StructureConfig,
        "layout",
        "--layout",
        panel="What goes",
        help="uniform keeps layers that are alike as wide as each other.",
    ),
]
Target = Annotated[
    list[str] | None,
    _option(
        "--target",
        panel="What goes",
        metavar="METRIC=AMOUNT",
        help="The size to reach: macs, params, channels, size-mb, latency, heads, ffn, body-macs or"
        " body-params (without the vocabulary), as a share of dense (up to 1) or absolute:"
        " macs=0.5, params=10M, latency=8 (milliseconds); repeatable.",
    ),
]
Weight = Annotated[
    float | None,
    _option("--weight", panel="What goes", help="Regularization weight, in place of a target."),
]
RegularizerFlag = Annotated[
    RegularizerName | None,
    _setting(
        TrainingConfig,
        "regularizer",
        "--regularizer",
        panel="What goes",
        help="What --weight multiplies; group-mcp shrinks large channels less, or not.",
    ),
]

MethodFlag = Annotated[
    Method | None,
    _setting(
        TrainingConfig,
        "method",
        "--method",
        panel="Training",
        help="ramda, or to compare with: taylor (gradual) or magnitude (one-shot L2) under AdamW,"
        " to a target; rmda, proxsgd, proxgen or proxssi, with --weight.",
    ),
]
Epochs = Annotated[
    int | None,
    _setting(TrainingConfig, "epochs", "--epochs", panel="Training", help="Passes over the data."),
]
MaxSteps = Annotated[
    int | None,
    _option(
        "--max-steps",
        panel="Training",
        help="Optimizer steps in all; the epochs are then parts of passes. Whole passes by"
        " default.",
    ),
]
Accumulate = Annotated[
    int | None,
    _setting(
        TrainingConfig,
        "accumulate",
        "--accumulate",
        panel="Training",
        help="Batches of which a step's gradient is the mean.",
    ),
]
AutoBatch = Annotated[
    bool | None,
    _setting(
        TrainingConfig,
        "auto_batch",
        "--auto-batch/--no-auto-batch",
        panel="Training",
        help="Compute a batch that does not fit into memory in parts.",
    ),
]
RecoverEpochs = Annotated[
    int | None,
    _option(
        "--recover-epochs",
        panel="Training",
        help="How many of the epochs train the smaller model, after the removal; with a target"
        " all that follow the freeze by default.",
    ),
]
LearningRate = Annotated[
    float | None,
    _option(
        "--lr",
        panel="Training",
        help="Step size. [dim]\\[default: 1e-4 for a model with attention, else 1e-3][/dim]",
    ),
]
Momentum = Annotated[
    float | None,
    _setting(
        TrainingConfig,
        "momentum",
        "--momentum",
        panel="Training",
        help="Weight of the prox output in each new iterate.",
    ),
]
Milestones = Annotated[
    str | None,
    _option(
        "--milestones",
        panel="Training",
        metavar="EPOCHS",
        help="Epochs at which lr shrinks tenfold and the averages restart: 30,60.",
    ),
]
Mixup = Annotated[
    float | None,
    _setting(
        TrainingConfig,
        "mixup",
        "--mixup",
        panel="Training",
        help="Blend images and their labels in pairs; alpha, such as 0.2.",
    ),
]
Cutmix = Annotated[
    float | None,
    _setting(
        TrainingConfig,
        "cutmix",
        "--cutmix",
        panel="Training",
        help="Replace a rectangle by another image's; alpha, such as 1.0; with --mixup half each.",
    ),
]
Distill = Annotated[
    float | None,
    _setting(
        TrainingConfig,
        "distill",
        "--distill",
        panel="Training",
        help="Weight of the dense model's outputs in the loss; with a target 0.9 by default, where"
        " it has learned the task.",
    ),
]
PrecisionFlag = Annotated[
    Precision | None,
    _setting(
        TrainingConfig,
        "precision",
        "--precision",
        panel="Compute",
        help="Of the network; weights and optimizer state are fp32.",
    ),
]
Device = Annotated[
    str | None,
    _setting(TrainingConfig, "device", "--device", panel="Compute", help="cpu, cuda or cuda:N."),
]
Seed = Annotated[
    int | None,
    _setting(
        TrainingConfig,
        "seed",
        "--seed",
        panel="Training",
        help="Of weights, data order, augmentation and mixing.",
    ),
]

Output = Annotated[
    Path | None,
    _option("-o", "--output", panel="Output", metavar="DIR", help="Where files go."),
]
Overwrite = Annotated[
    bool | None,
    _option("--overwrite", panel="Output", help="Replace files of an earlier run."),
]
Resume = Annotated[
    bool,
    _option(
        "--resume",
        panel="Output",
        help="Go on with the run that was interrupted in DIR, or begin it where there is none.",
    ),
]
ReportTo = Annotated[
    list[str] | None,
    _option(
        "--report-to",
        panel="Output",
        metavar="TRACKER",
        help="Report metrics to tensorboard, wandb, mlflow or others too; may be repeated.",
    ),
]
Onnx = Annotated[
    bool | None,
    _option(
        "--onnx/--no-onnx", panel="Output", help="Write and check model.onnx.", show_default=False
    ),
]
Json = Annotated[bool, _option("--json", panel="Output", help="Print one JSON document on stdout.")]
Junit = Annotated[
    Path | None,
    _option("--junit", panel="Output", metavar="FILE", help="Write the verdicts as JUnit XML."),
]
Spectra = Annotated[
    bool,
    _option(
        "--spectra",
        panel="Output",
        help="Show the singular values of weights that could become two, and what ranks save.",
    ),
]
Graph = Annotated[
    Path | None,
    _option(
        "--graph",
        panel="Output",
        metavar="FILE",
        help="Draw the dependency structure into an .svg or .html file.",
    ),
]
