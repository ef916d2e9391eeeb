"""`ramda export`: a pruned model in another format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ramda_cli.cli import options
from ramda_cli.cli.output import model_file, print_json, stdout_console, stdout_to_stderr
from ramda_cli.cli.progress import progress
from ramda_cli.cli.verdicts import render_verdicts
from ramda_cli.config.schema import ExportFormat, ExportLayout
from ramda_cli.errors import ConfigError
from ramda_cli.report.gate import Verdict


def export(
    file: options.PrunedFile,
    format: Annotated[ExportFormat, typer.Option("--format", help="What to write.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="PATH", help="Where to write it.")
    ],
    batch: Annotated[
        str | None,
        typer.Option(
            "--batch",
            metavar="N",
            help="onnx and torch-export: the only batch size. [dim]\\[default: dynamic][/dim]",
        ),
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option("--opset", min=18, help="onnx: of its operators; the exporter's by default."),
    ] = None,
    fp16: Annotated[
        bool,
        typer.Option("--fp16", help="onnx: half precision, with fp32 inputs and outputs."),
    ] = False,
    layout: Annotated[
        ExportLayout | None,
        typer.Option(
            "--layout",
            help="timm and hf: the smaller tensors, where the configuration can say their sizes,"
            " or dense ones with zeros. [dim]\\[default: per-layer][/dim]",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    json: options.Json = False,
) -> None:
    """Write a pruned model in another format, and compare what was written.

    What does not compute the same is not kept, and the exit code is 3. Neither
    the data nor the base weights nor a network is needed.

    Examples:
      ramda export out --format onnx --fp16 -o out/half.onnx
      ramda export out/model.safetensors --format torch-export -o model.pt2
      ramda export out --format timm --layout dense -o for-timm
    """
    for flag, given, formats in (
        ("--opset", opset is not None, ("onnx",)),
        ("--fp16", fp16, ("onnx",)),
        ("--batch", batch is not None, ("onnx", "torch-export")),
        ("--layout", layout is not None, ("timm", "hf")),
    ):
        if given and format not in formats:
            raise ConfigError(
                f"{flag} is for --format {' and '.join(formats)}, not {format}",
                hint=f"leave out {flag}",
            )
    size = _batch(batch)
    path = model_file(file)
    with stdout_to_stderr(), progress() as observer:
        observer.stage("export", f"{path} as {format}")
        from ramda_cli.pipeline import ExportSettings
        from ramda_cli.pipeline import export as run

        settings = ExportSettings(
            format=format, batch=size, opset=opset, half=fp16, layout=layout or "per-layer"
        )
        result = run(path, output, settings, overwrite=overwrite)
    if json:
        print_json(result)
    else:
        _render(result)


def _batch(text: str | None) -> int | None:
    if text in (None, "dynamic"):
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise ConfigError(
            f"--batch is dynamic or a whole number from 1 to 1024, got {text!r}",
            hint="for example --batch 1",
        )
    return int(text)


def _render(result: Mapping[str, Any]) -> None:
    from ramda_cli.report.formatting import size_bytes, text_of

    render_verdicts([Verdict(**check) for check in result["checks"]])
    written = text_of(f"{result['file']}, {size_bytes(result['bytes'])}", style="bold")
    stdout_console().print(written, soft_wrap=True)
    stdout_console().print(text_of(f"loads with {result['loads_with']}"), soft_wrap=True)
