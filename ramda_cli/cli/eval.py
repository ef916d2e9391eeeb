"""`ramda eval`: the metric of a pruned model on data."""

from collections.abc import Mapping
from typing import Any

from ramda_cli.cli import options
from ramda_cli.cli.output import model_file, print_json, stdout_console, stdout_to_stderr
from ramda_cli.cli.progress import progress
from ramda_cli.config.loading import load_section
from ramda_cli.config.schema import DataConfig, TrainingConfig


def evaluate(
    file: options.PrunedFile,
    data: options.RequiredData,
    data_dir: options.DataDir = None,
    train_split: options.TrainSplit = None,
    val_split: options.ValSplit = None,
    input_key: options.InputKey = None,
    target_key: options.TargetKey = None,
    max_length: options.MaxLength = None,
    batch_size: options.BatchSizeOfRun = None,
    workers: options.Workers = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Measure the metric of a pruned model on the validation part of DATA.

    The file is enough: no base weights and no model code.

    Examples:
      ramda eval out/model.safetensors --data digits
      ramda eval out --data photos --json
      ramda eval out --data reviews.csv --val-split train
    """
    values = {
        "name": data,
        "data_dir": data_dir,
        "train_split": train_split,
        "val_split": val_split,
        "input_key": input_key,
        "target_key": target_key,
        "max_length": max_length,
        "eval_batch_size": batch_size,
        "workers": workers,
    }
    source = load_section(DataConfig, "data", values)
    chosen = load_section(TrainingConfig, "training", {"device": device}).device
    path = model_file(file)
    with stdout_to_stderr(), progress() as observer:
        observer.stage("evaluate", str(path))
        from ramda_cli.pipeline import evaluate as run

        result = run(path, source, device=chosen)
    if json:
        print_json(result)
    else:
        _render(result)


def _render(result: Mapping[str, Any]) -> None:
    from ramda_cli.report.formatting import count, duration, measured, text_of

    value = measured(result["value"], is_share=result["is_share"])
    line = text_of(f"{result['metric']} {value}", style="bold")
    for note in result["notes"]:
        stdout_console().print(text_of(f"note: {note}"))
    rest = f" on {count(result['examples'])} {result['unit']} in {duration(result['seconds'])}"
    stdout_console().print(line + text_of(f"{rest}: {result['data']}", style="not bold"))
