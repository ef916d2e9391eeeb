"""`ramda export`: a pruned model in another format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ramda_cli.cli import options
from ramda_cli.cli.output import model_file, print_json, stdout_console, stdout_to_stderr
from ramda_cli.cli.progress import progress
from ramda_cli.cli.verdicts import render_verdicts
from ramda_cli.errors import ConfigError
from ramda_cli.report.gate import Verdict

Format = Literal["onnx", "torch-export"]


def export(
    file: options.PrunedFile,
    format: Annotated[Format, typer.Option("--format", help="What to write.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="PATH", help="Where to write it.")
    ],
    batch: Annotated[
        str,
        typer.Option(
            "--batch", metavar="N", help="Batch size that is taken; onnx and torch-export only."
        ),
    ] = "dynamic",
    opset: Annotated[
        int | None, typer.Option("--opset", min=18, help="Of ONNX; the exporter's by default.")
    ] = None,
    fp16: Annotated[
        bool,
        typer.Option("--fp16", help="ONNX in half precision, with fp32 inputs and outputs."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    json: options.Json = False,
) -> None:
    """Write a pruned model in another format, and compare what was written.

    What does not compute the same is not kept, and the exit code is 3. Neither
    the data nor the base weights nor a network is needed.

    Examples:
      ramda export out --format onnx --fp16 -o out/half.onnx
      ramda export out/model.safetensors --format torch-export -o model.pt2
    """
    for flag, given in (("--opset", opset is not None), ("--fp16", fp16)):
        if given and format != "onnx":
            raise ConfigError(f"{flag} is of ONNX, not of {format}", hint=f"leave out {flag}")
    size = _batch(batch)
    path = model_file(file)
    with stdout_to_stderr(), progress() as observer:
        observer.stage("export", f"{path} as {format}")
        from ramda_cli.pipeline import ExportSettings
        from ramda_cli.pipeline import export as run

        settings = ExportSettings(format=format, batch=size, opset=opset, half=fp16)
        result = run(path, output, settings, overwrite=overwrite)
    if json:
        print_json(result)
    else:
        _render(result)


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise ConfigError(
            f"--batch is dynamic or a whole number up to 1024, got {text!r}",
            hint="for example --batch 1",
        )
    return int(text)


def _render(result: Mapping[str, Any]) -> None:
    from ramda_cli.report.formatting import size_bytes, text_of

    render_verdicts([Verdict(**check) for check in result["checks"]])
    written = text_of(f"{result['file']}, {size_bytes(result['bytes'])}", style="bold")
    stdout_console().print(written, soft_wrap=True)
    stdout_console().print(text_of(f"loads with {result['loads_with']}"), soft_wrap=True)
