"""SIGKILL at random moments; `python -m tests.pipeline.killed --kills 50` does more of it."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_runs_that_are_killed_again_and_again_end_with_the_same_file() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.pipeline.killed", "--kills", "6", "--seed", "3"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True,
    )  # fmt: skip
    first, *runs, last = done.stdout.splitlines()
    assert first.startswith("undisturbed: ")
    assert runs
    assert all(run.endswith("times, the same file") for run in runs)
    kills, ended = (int(word) for word in last.split() if word.isdigit())
    assert kills >= 6
    assert ended == len(runs)
