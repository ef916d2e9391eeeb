"""Run every gate of the repository in order and stop at the first that fails.

Formatting and linting, types, import layers, then the tests: what CI runs. With `--coverage` lines
are counted and nine in ten must be run, which takes half as long again.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GATES = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
    "import layers": ["lint-imports"],
    "tests": [
        "pytest",
        "-m",
        "not slow and not gpu and not network",
        # Each worker computes with one thread; files stay whole, for the fixtures of a module.
        "--numprocesses=auto",
        "--maxprocesses=4",
        "--dist=loadfile",
        "--durations=15",
    ],
}
COVERAGE = ("--cov", "--cov-report=term:skip-covered", "--cov-fail-under=90")


def main() -> int:
    """Return 0, or the exit code of the first gate that fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--coverage", action="store_true", help="count the lines that are run")
    coverage = COVERAGE if parser.parse_args().coverage else ()
    # The tools of the environment that runs this script, whether it is activated or not.
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": tools}
    for name, command in GATES.items():
        print(f"== {name}", flush=True)
        started = time.monotonic()
        more = coverage if name == "tests" else ()
        code = subprocess.run([*command, *more], cwd=ROOT, env=environment, check=False).returncode
        if code != 0:
            print(f"== {name} failed with exit code {code}", file=sys.stderr)
            return code
        # pytest's own closing line, which has the time, stays the last one.
        if name != "tests":
            print(f"== {name} passed in {time.monotonic() - started:.1f} s\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
