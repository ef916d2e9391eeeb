"""`ramda inspect`: what can be removed and what cannot."""

from pathlib import Path

from ramda_cli.cli import options
from ramda_cli.cli.output import print_json, stdout_console, stdout_to_stderr, write_text
from ramda_cli.cli.progress import progress
from ramda_cli.config.loading import load_section
from ramda_cli.config.schema import DataConfig, ModelConfig, StructureConfig
from ramda_cli.errors import ConfigError


def inspect(
    model: options.Model,
    weights: options.Weights = None,
    pretrained: options.Pretrained = None,
    task: options.TaskFlag = None,
    image_size: options.ImageSize = None,
    max_length: options.MaxLength = None,
    penalize: options.PenalizeFlag = None,
    keep: options.Keep = None,
    residual: options.Residual = None,
    spectra: options.Spectra = False,
    graph: options.Graph = None,
    json: options.Json = False,
) -> None:
    """Show which channels of MODEL can be removed, which cannot and why. Nothing is trained.

    A removal is tried, to say what the smaller model will be.

    Examples:
      ramda inspect resnet50
      ramda inspect vit_tiny_patch16_224 --no-pretrained
      ramda inspect net.py:build --image-size 64 --json
      ramda inspect resnet18 --graph resnet18.svg
      ramda inspect vit_small_patch16_224 --spectra
      ramda inspect hf-hub:google-bert/bert-base-uncased --task text-classification
    """
    source = load_section(
        ModelConfig,
        "model",
        {"name": model, "weights": weights, "pretrained": pretrained, "task": task},
    )
    structure = load_section(
        StructureConfig, "structure", {"penalize": penalize, "keep": keep, "residual": residual}
    )
    if graph is not None and graph.suffix not in (".svg", ".html"):
        raise ConfigError(
            f"--graph {graph} is neither .svg nor .html", hint="for example --graph structure.svg"
        )
    # Checked as the setting it is; inspecting needs no data.
    load_section(
        DataConfig, "data", {"name": "-", "image_size": image_size, "max_length": max_length}
    )
    with stdout_to_stderr(), progress() as observer:
        observer.stage("inspect", source.name)
        from ramda_cli.pipeline import inspect as run

        found = run(
            source, structure,
            observer=observer, image_size=image_size, max_length=max_length, with_spectra=spectra,
        )  # fmt: skip
    if graph is not None:
        _write_picture(found, graph)
    if json:
        print_json(found)
        return
    from ramda_cli.report.inspect_view import render_inspect

    render_inspect(found, stdout_console())


def _write_picture(found: object, path: Path) -> None:
    from ramda_cli.report.plain import parse_inspection
    from ramda_cli.report.structure_picture import draw_html, draw_svg

    draw = draw_svg if path.suffix == ".svg" else draw_html
    write_text(path, draw(parse_inspection(found)), flag="--graph")
