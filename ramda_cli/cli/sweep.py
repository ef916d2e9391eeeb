"""`ramda sweep`: one model to several targets."""

from typing import Annotated

import typer

from ramda_cli.cli import options
from ramda_cli.cli.output import print_json, stdout_console, stdout_to_stderr
from ramda_cli.cli.progress import progress
from ramda_cli.config.loading import load_config
from ramda_cli.config.schema import TARGET_METHODS
from ramda_cli.config.targets import parse_target
from ramda_cli.errors import ConfigError

Targets = Annotated[
    str,
    typer.Option(
        "--targets",
        metavar="METRIC=AMOUNT,...",
        help="The sizes to reach, one metric: macs=0.3,0.5,0.7; shares alone are of the MACs.",
    ),
]
Methods = Annotated[
    str, typer.Option("--methods", metavar="NAMES", help="ramda, taylor, magnitude, by commas.")
]
Seeds = Annotated[str, typer.Option("--seeds", metavar="NUMBERS", help="By commas: 0,1,2.")]


def sweep(
    targets: Targets,
    model: options.OptionalModel = None,
    task: options.TaskFlag = None,
    config_file: options.ConfigFile = None,
    sets: options.Sets = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    max_length: options.MaxLength = None,
    augment: options.Augment = None,
    random_erasing: options.RandomErasing = None,
    epochs: options.Epochs = None,
    recover_epochs: options.RecoverEpochs = None,
    mixup: options.Mixup = None,
    cutmix: options.Cutmix = None,
    device: options.Device = None,
    methods: Methods = "ramda",
    seeds: Seeds = "0",
    output: options.Output = None,
    overwrite: options.Overwrite = None,
    onnx: options.Onnx = None,
    json: options.Json = False,
) -> None:
    """Prune MODEL to each target from the same dense weights; show accuracy against size.

    A sweep that was interrupted goes on where it stopped: finished runs are not repeated.

    Examples:
      ramda sweep digits-resnet --data digits --targets 0.3,0.5,0.7 -o sweep
      ramda sweep --config configs/digits.yaml --targets params=0.2,0.4 --methods ramda,taylor
    """
    metric, amounts = _parse_targets(targets)
    overrides: dict[str, object] = {
        "model.name": model,
        "model.task": task,
        "data.name": data,
        "data.data_dir": data_dir,
        "data.max_length": max_length,
        "data.augment": augment,
        "data.random_erasing": random_erasing,
        "training.epochs": epochs,
        "training.recover_epochs": recover_epochs,
        "training.mixup": mixup,
        "training.cutmix": cutmix,
        "training.device": device,
        "output.directory": output,
        "output.overwrite": overwrite,
        "output.onnx": onnx,
        "target": {metric: amounts[0]},
    }
    config = load_config(config_file, overrides, sets or ())
    with stdout_to_stderr(), progress() as observer:
        observer.stage("start", "loading libraries")
        from ramda_cli.pipeline import SweepSettings
        from ramda_cli.pipeline import sweep as run

        settings = SweepSettings(metric, amounts, _parse_methods(methods), parse_seeds(seeds))
        document = run(config, settings, observer)
    if json:
        print_json(document)
        return
    from ramda_cli.report.sweep_view import render_sweep

    render_sweep(document, stdout_console())


def _parse_targets(text: str) -> tuple[str, tuple[float, ...]]:
    name, equals, amounts = text.partition("=")
    metric = name if equals else "macs"
    parsed = [parse_target(f"{metric}={part}") for part in (amounts or name).split(",")]
    if len({amount for _, amount in parsed}) < len(parsed):
        raise ConfigError("a target of --targets is there twice", hint="give each amount once")
    return parsed[0][0], tuple(amount for _, amount in parsed)


def _parse_methods(text: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    odd = next((name for name in chosen if name not in TARGET_METHODS), None)
    if odd is not None:
        raise ConfigError(
            f"--methods must be of {', '.join(TARGET_METHODS)}, got {odd!r}",
            hint="for example --methods ramda,taylor",
        )
    return chosen


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read numbers separated by commas.

    Raises:
        ConfigError: it is anything else.
    """
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise ConfigError(
            f"--seeds must be numbers separated by commas, got {text!r}",
            hint="for example --seeds 0,1,2",
        ) from error
    if min(seeds) < 0:
        raise ConfigError(f"--seeds must not be negative, got {text!r}", hint="count from 0")
    return seeds
