"""`ramda compare`: methods side by side, over seeds."""

from pathlib import Path
from typing import Annotated

import typer

from ramda_cli.cli import options
from ramda_cli.cli.output import print_json, stdout_console, stdout_to_stderr
from ramda_cli.cli.progress import progress
from ramda_cli.cli.sweep import parse_seeds
from ramda_cli.config.comparison import load_comparison
from ramda_cli.errors import ConfigError

Configs = Annotated[
    list[Path],
    typer.Argument(
        metavar="CONFIG...", help="YAML files with methods and seeds; configs/paper has those of"
        " the paper.", show_default=False,
    ),
]  # fmt: skip
Labels = Annotated[
    str | None,
    typer.Option("--methods", metavar="LABELS", help="Of the file's methods, which; by commas."),
]
Seeds = Annotated[
    str | None, typer.Option("--seeds", metavar="NUMBERS", help="In place of the file's: 0,1,2.")
]


def compare(
    configs: Configs,
    sets: options.Sets = None,
    labels: Labels = None,
    seeds: Seeds = None,
    epochs: options.Epochs = None,
    device: options.Device = None,
    output: options.Output = None,
    overwrite: options.Overwrite = None,
    json: options.Json = False,
) -> None:
    """Train by each method of a file, over seeds; show metric, structure and time side by side.

    Every trained model is removed and proven, as `ramda prune` does. A comparison that was
    interrupted goes on where it stopped.

    Examples:
      ramda compare configs/paper/logistic-mnist.yaml -o comparison
      ramda compare configs/paper/logistic-mnist.yaml --methods RAMDA,ProxGen --seeds 0
    """
    # Each file is read before anything runs.
    given = {"training.epochs": epochs, "training.device": device, "output.overwrite": overwrite}
    comparisons = [
        load_comparison(
            path, given, sets or (),
            labels=() if labels is None else [label.strip() for label in labels.split(",")],
            seeds=() if seeds is None else parse_seeds(seeds),
        )
        for path in configs
    ]  # fmt: skip
    names = [comparison.name for comparison in comparisons]
    if len(set(names)) < len(names):
        raise ConfigError("two files have the same name", hint="each names a directory: rename one")
    with stdout_to_stderr(), progress() as observer:
        observer.stage("start", "loading libraries")
        from ramda_cli.pipeline import compare as run

        documents = run(comparisons, output or Path("comparison"), observer)
    if json:
        print_json({"comparisons": documents})
        return
    from ramda_cli.report.methods_view import render_comparison

    for document in documents:
        render_comparison(document, stdout_console())
