"""The command line takes every command of the README and of the recipes, which are YAML."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from ramda_cli.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
# What a shell does with the output is not the command's.
REDIRECTED = re.compile(r"\s>>?\s.*|\s\|\|.*")


def recipes(page: str) -> list[dict[Any, Any]]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [yaml.safe_load(found) for found in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]


def scripts(node: Any) -> Iterator[str]:
    """Yield what the steps of a workflow and the jobs of a pipeline run."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "run" and isinstance(value, str):
                yield value
            elif key == "script":
                yield from value
            else:
                yield from scripts(value)
    elif isinstance(node, list):
        for each in node:
            yield from scripts(each)


def commands(page: str) -> list[list[str]]:
    """Return the arguments of every `ramda` in the recipes, run from its image or by itself."""
    found = []
    for recipe in recipes(page):
        for script in scripts(recipe):
            for line in script.replace("\\\n", " ").splitlines():
                words = shlex.split(REDIRECTED.sub("", line))
                program = next((w for w in ("$IMAGE", "ramda") if w in words), None)
                if program is not None:
                    found.append(words[words.index(program) + 1 :])
    return found


def indented(page: str) -> list[list[str]]:
    """Return the arguments of every `ramda` in an indented block."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = re.findall(r"^ {4}(?:\.venv/bin/)?ramda ([^#\n]*)", text, re.MULTILINE)
    return [shlex.split(line) for line in lines]


def parse(arguments: list[str]) -> dict[str, Any]:
    """Let the command line check arguments, down to the command that would run."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("ramda", list(arguments))
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    return context.params


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (commands("docs/ci.md"), ["prune", "bench", "report", "check"] * 2),
        (indented("README.md"), ["report", "prune", "bench", "check", "report"]),
    ],
)
def test_the_command_line_takes_every_command(found: list[list[str]], names: list[str]) -> None:
    assert [arguments[0] for arguments in found] == names
    for arguments in found:
        parse(arguments)


def test_both_recipes_demand_the_same() -> None:
    found = commands("docs/ci.md")
    assert found[:4] == found[4:]
    assert parse(found[3])["min_speedup"] == 1.3


def test_a_flag_that_is_not_there_is_found() -> None:
    with pytest.raises(typer.TyperException):
        parse(["check", "out", "--no-such-flag"])


def test_every_recipe_is_yaml() -> None:
    assert [isinstance(recipe, dict) for recipe in recipes("docs/ci.md")] == [True, True]


def test_only_the_job_that_comments_may_write() -> None:
    workflow, pipeline = recipes("docs/ci.md")
    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in workflow["jobs"]["prune"]
    assert workflow["jobs"]["comment"]["permissions"] == {"pull-requests": "write"}
    assert pipeline["note"]["needs"] == ["prune"]
    assert not any("ramda" in line for line in pipeline["note"]["script"])


def test_what_is_posted_is_what_report_wrote() -> None:
    for recipe in recipes("docs/ci.md"):
        written = [line for line in scripts(recipe) if "> report.md" in line]
        posted = [line for line in scripts(recipe) if "test ! -f report.md" in line]
        assert len(written) == len(posted) == 1
        assert "--format markdown > report.md" in written[0]
