"""Fuzz a parser, guided by coverage: what is given to it may be refused, and nothing else.

    pip install atheris
    python -m tests.fuzz config --minutes 10

| parser | is given |
|---|---|
| `config` | YAML files, and `--set` over them |
| `metadata` | safetensors files and states of runs: damaged bytes, headers and reports |
| `plan` | model files whose plans, programs and probes were changed, and then loaded and run |
| `cli` | command lines; what would run is not run |

An exception that is not for the user, or ten seconds without an end, stops it; libFuzzer then
writes the input to the working directory, and `python -m tests.fuzz PARSER FILE` repeats it.
"""

import argparse
import contextlib
import copy
import io
import json
import random
import re
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["ramda_cli"], enable_loader_override=False):
    import ramda_cli.cli.app as command_line
    from ramda_cli import pipeline
    from ramda_cli.config.loading import dump_config, load_config
    from ramda_cli.config.schema import RunConfig
    from ramda_cli.errors import ConfigError, RamdaError
    from ramda_cli.export import load, read_probe, read_state, save, write_state
    from ramda_cli.file_header import read_header, read_header_report
    from ramda_cli.report.html import render_html
    from ramda_cli.report.markdown import render_markdown
    from ramda_cli.report.plain import build_report, parse_report

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.export.helpers import Plain, shrunk, vit
from tests.report.sample import REPORT

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm"))
SETTINGS = tuple(f"{section}.{key}" for section, field in RunConfig.model_fields.items()
                 for key in getattr(field.annotation, "model_fields", {}))  # fmt: skip
MEMORY = 12 * 2**30


def config(data: bytes) -> None:
    """Read settings, and write and read them again."""
    text, _, sets = data.decode("utf-8", "replace").partition("\0")
    path = FOLDER / "config.yaml"
    path.write_text(text)
    read = load_config(path, {}, [item for item in sets.split("\0") if item])
    path.write_text(dump_config(read))
    if load_config(path, {}, ()) != read:
        raise AssertionError("settings that were written are not those that are read")


def metadata(data: bytes) -> None:
    """Read a file in every way that needs no model."""
    path = FOLDER / "model.safetensors"
    if data[:1] == b"{":  # a header alone, of any length
        data = len(data).to_bytes(8, "little") + data
    path.write_bytes(data)
    with contextlib.suppress(RamdaError):
        read_state(path, "training")
    with contextlib.suppress(RamdaError):
        load(path)
    with contextlib.suppress(RamdaError):
        read_probe(read_header(path))
    document = read_header_report(path)
    for show in (parse_report, render_markdown, render_html):
        with contextlib.suppress(RamdaError):
            show(document)


class Plans:
    """Changes the document of a model file, and loads and runs what came of it."""

    def __init__(self) -> None:
        self._documents, self._tensors = [], []
        for number, case in enumerate((shrunk(Plain(), torch.randn(2, 3, 8, 8)), vit())):
            path = FOLDER / f"{number}.safetensors"
            save(case.smaller, case.plan, path)
            with safe_open(path, framework="pt") as file:
                self._documents.append(json.loads(file.metadata()["ramda"]))
            self._tensors.append(load_file(path))
        self._path = FOLDER / "plan.safetensors"
        self._verify = pipeline.verify

    def __call__(self, data: bytes) -> None:
        """Change a few values, as the bytes say."""
        choose = random.Random(data)
        # The graph more often, because it loads faster.
        at = int(choose.random() < 0.1)
        document = json.loads(json.dumps(self._documents[at]))
        for _ in range(choose.randint(1, 3)):
            change(document, choose)
        header = {"ramda_format": "1", "ramda": json.dumps(document)}
        save_file(self._tensors[at], self._path, metadata=header)
        self._verify(self._path)


VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 10**9, -(2**63), 2**70, 0.5, 1e308, "", "x", "fc",
    "aten.add.Tensor", "aten.view.default", [], {}, [[]], [1, 2], {"a": 1}, "../../x", "\0",
    "__class__",
)  # fmt: skip


def change(document: Any, choose: random.Random) -> None:
    """Change one value somewhere in a JSON document, in place."""
    node = document
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = choose.choice(keys)
        if isinstance(node[key], dict | list) and node[key] and choose.random() < 0.9:
            node = node[key]
            continue
        break
    kind = choose.randrange(4)
    if kind == 0:
        del node[key]
    elif kind == 1:
        node[key] = copy.deepcopy(choose.choice(VALUES))
    elif kind == 2:
        node[key] = copy.deepcopy(node[choose.choice(keys)])
    elif isinstance(node[key], int) and not isinstance(node[key], bool):
        node[key] += choose.choice((-1, 1, 64, -64))
    elif isinstance(node, dict):
        node[str(choose.choice(VALUES))] = copy.deepcopy(node[key])
    else:
        node.insert(choose.randrange(len(node) + 1), copy.deepcopy(choose.choice(VALUES)))


def cli(data: bytes) -> None:
    """Give a command line to the program, up to what it would run."""
    arguments = data.decode("utf-8", "replace").split("\0")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command_line.app(arguments)
        except SystemExit as end:
            if end.code not in (0, 1, 2, 3, 130):
                raise AssertionError(f"exit code {end.code}") from end
            # `bench` alone shows its help.
            if end.code and "error: " not in err.getvalue() and "Usage: " not in out.getvalue():
                raise AssertionError(f"exit code {end.code} without a word") from end


def nothing_is_run() -> None:
    """Put a refusal in the place of everything that a command would run."""

    def refuse(*_: object, **__: object) -> None:
        raise ConfigError("nothing is run here")

    for name in pipeline.__all__:
        if callable(getattr(pipeline, name)) and not isinstance(getattr(pipeline, name), type):
            setattr(pipeline, name, refuse)


def seeds(parser: str) -> list[bytes]:
    """Return what the parser takes."""
    if parser == "config":
        files = sorted(Path("configs").rglob("*.yaml"))
        sets = [f"model:\n  name: a\ndata:\n  name: b\n\0{key}=1" for key in SETTINGS]
        return [*(path.read_bytes() for path in files), *(text.encode() for text in sets)]
    if parser == "metadata":
        path = FOLDER / "seed.safetensors"
        write_state({"training": {"a": [1, (2.5, None)], "t": torch.ones(2)}}, path)
        state = path.read_bytes()
        save(*_saved(), path)
        report = {"ramda_format": "1", "ramda": json.dumps({"report": build_report(REPORT)})}
        return [state, path.read_bytes(), json.dumps({"__metadata__": report}).encode()]
    if parser == "plan":
        return [bytes([number]) for number in range(8)]
    lines = (
        "prune resnet50 --data digits --target macs=0.5", "sweep a --data b --targets .3,0.5",
        "prune a --data b --weight 1e-3 --milestones 3,5 --epochs 9",
        "prune a --data b --target params=10M -o x",
        "check x --max-params 10M --max-macs 1G", "export x onnx --opset 18", "inspect a --json",
        "report x", "eval x --data d", "verify x", "bench x --threads 1", "prune --resume -o x",
        "prune a --data b --target latency=8 --set training.eps=1e-7 --low-rank * --keep fc",
    )  # fmt: skip
    return ["\0".join(line.split()).encode() for line in lines]


def _saved() -> tuple[Any, Any]:
    case = shrunk(Plain(), torch.randn(2, 3, 8, 8))
    return case.smaller, case.plan


def words(parser: str) -> list[str]:
    """Return what libFuzzer may put together."""
    if parser == "config":
        return [*SETTINGS, *(key.rpartition(".")[2] for key in SETTINGS)]
    if parser == "cli":
        flags = re.findall(
            r'"(--[a-z-]+)', "".join(p.read_text() for p in Path("ramda_cli/cli").glob("*.py"))
        )
        return [*sorted(set(flags)), *SETTINGS, "macs=", "params=", "10M", "1e-3", "0.5"]
    return ["__metadata__", "ramda_format", "data_offsets", "dtype", "shape", "ramda_state", "F32"]


def tell_refusals_from_failures(parser: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Return the parser without its refusals."""

    def run(data: bytes) -> None:
        with contextlib.suppress(RamdaError):
            parser(data)

    return run


def main() -> None:
    """Fuzz, or repeat one input."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("parser", choices=("config", "metadata", "plan", "cli"))
    options.add_argument("input", nargs="?", type=Path)
    options.add_argument("--minutes", type=float, default=10.0)
    given = options.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    made = {"config": config, "metadata": metadata, "cli": cli}
    parser = Plans() if given.parser == "plan" else made[given.parser]
    corpus, dictionary = FOLDER / "corpus", FOLDER / "words"
    corpus.mkdir()
    for number, seed in enumerate(seeds(given.parser)):
        (corpus / str(number)).write_bytes(seed)
    dictionary.write_text("".join(f'"{word}"\n' for word in words(given.parser)))
    nothing_is_run()
    what = [str(given.input)] if given.input else [
        str(corpus), f"-dict={dictionary}", f"-max_total_time={round(60 * given.minutes)}",
        "-timeout=10", "-rss_limit_mb=0", "-max_len=8192", "-len_control=10",
        "-print_final_stats=1",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *what], tell_refusals_from_failures(parser))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
