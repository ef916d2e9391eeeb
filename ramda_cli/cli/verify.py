"""`ramda verify`: a pruned model checked again, wherever it was copied to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ramda_cli.cli import options
from ramda_cli.cli.output import print_json, stdout_to_stderr, write_text
from ramda_cli.cli.progress import progress
from ramda_cli.cli.verdicts import render_verdicts
from ramda_cli.errors import GateError
from ramda_cli.report.gate import Verdict, junit


def verify(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="The directory of a pruned model, or its model.safetensors alone."
        ),
    ],
    trust_pt2: Annotated[
        bool,
        typer.Option("--trust-pt2", help="Load .pt2 files too, which may unpickle: only your own."),
    ] = False,
    junit_file: options.Junit = None,
    json: options.Json = False,
) -> None:
    """Check a pruned model again on this machine, with no data and no base weights.

    The files must have the hashes that the report lists, and the model and
    its exports must give the outputs that the file holds; else exit 3.

    Examples:
      ramda verify out
      ramda verify out/model.safetensors --json
    """
    with stdout_to_stderr(), progress() as observer:
        observer.stage("verify", str(file))
        from ramda_cli.pipeline import verify as run

        result: Mapping[str, Any] = run(file, trust_pt2=trust_pt2)
    verdicts = tuple(Verdict(**check) for check in result["checks"])
    if junit_file is not None:
        suite = f"ramda verify {file.name}"
        write_text(junit_file, junit(verdicts, suite=suite, command="verify"), flag="--junit")
    if json:
        print_json(result)
    else:
        render_verdicts(verdicts, notes=result["notes"])
    failed = [verdict for verdict in verdicts if not verdict.passed]
    if failed:
        raise GateError(
            f"{failed[0].name}: {failed[0].text}",
            hint="copy the directory again; what was proven is not what is here",
        )
