"""Runs in processes of their own, which are killed at random moments and go on.

    python -m tests.pipeline.killed --kills 50 --seed 0

prints a line for each run that came to its end: how often it was killed, and whether its file is
that of an undisturbed one. The processes are forked from one that has imported everything.
"""

import argparse
import json
import os
import random
import signal
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import safe_open

from ramda_cli.config.schema import RunConfig
from ramda_cli.observer import SilentObserver
from ramda_cli.pipeline import prune

OUT = Path("out")


def small_run(**training: object) -> RunConfig:
    """Return the settings of a run on digits of some seconds, with many checkpoints."""
    settings = {
        "model": {"name": "digits-resnet"},
        "data": {"name": "digits", "batch_size": 64, "limit": 640},
        "target": {"macs": 0.5},
        "training": {"epochs": 3, "device": "cpu", "freeze": 0.4, **training},
        "output": {
            "directory": str(OUT), "bench": False, "onnx": False, "checkpoint_minutes": 0.003,
        },
    }  # fmt: skip
    return RunConfig.model_validate(settings)


def start(config: RunConfig, directory: Path) -> int:
    """Run, or go on, in a new process with that working directory; return its number."""
    child = os.fork()
    if child:
        return child
    os.chdir(directory)
    try:
        prune(config, SilentObserver(), resume=True)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def run_to_the_end(config: RunConfig, directory: Path) -> bytes:
    """Return the result of a run that nobody disturbs."""
    _, status = os.waitpid(start(config, directory), 0)
    assert status == 0
    return (directory / OUT / "model.safetensors").read_bytes()


def run_with_kills(
    config: RunConfig, directory: Path, *, seconds: float, draws: random.Random
) -> tuple[bytes, int]:
    """Return the result of a run that is killed again and again, and how often it was."""
    kills = 0
    while True:
        child = start(config, directory)
        ends = time.monotonic() + draws.uniform(0.0, seconds)
        while time.monotonic() < ends:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                assert status == 0
                return (directory / OUT / "model.safetensors").read_bytes(), kills
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
        require_whole_files(directory / OUT)


def require_whole_files(directory: Path) -> None:
    """Read every file that has its final name."""
    for path in directory.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                file.get_tensor(name)
    for path in directory.rglob("*.json"):
        json.loads(path.read_text())
    for path in directory.rglob("*.jsonl"):
        epochs = [json.loads(line)["epoch"] for line in path.read_text().splitlines()]
        assert epochs == [*range(len(epochs))]


def main() -> None:
    """Kill runs until it was often enough."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draws, config = random.Random(options.seed), small_run()
    kills = runs = 0
    with TemporaryDirectory() as folder:
        straight = Path(folder, "straight")
        straight.mkdir()
        started = time.monotonic()
        expected = run_to_the_end(config, straight)
        seconds = time.monotonic() - started
        print(f"undisturbed: {seconds:.1f} s", flush=True)
        while kills < options.kills:
            runs += 1
            directory = Path(folder, str(runs))
            directory.mkdir()
            result, times = run_with_kills(config, directory, seconds=seconds, draws=draws)
            kills += times
            same = "the same" if result == expected else "ANOTHER"
            print(f"run {runs}: killed {times} times, {same} file", flush=True)
    print(f"{kills} kills, {runs} runs")


if __name__ == "__main__":
    main()
