"""Feed damaged and hostile model files to the readers for a while, and report what is not refused.

    python scripts/fuzz_files.py --minutes 10 out/model.safetensors other.safetensors

Each trial changes a real file: bytes, its length, or values in the JSON of its header (huge sizes,
wrong types, values from elsewhere, terminal and HTML escapes, names of classes and operators).
Then the header is read and the report shown in every form, the model loaded, and its probe checked.
An error for the user is a refusal, and fine; any other exception, a call of more than a minute or
more than 4 GiB of memory is a finding, and its file is kept. Exit code 1 if there is one.
"""

import argparse
import contextlib
import copy
import io
import json
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 60
MEMORY = 4 * 2**30
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**40, 2**63, 2**70, -(2**70), 0.5, 1e308, -1e308,
    "", "x" * 10_000, "\x1b[31mred\x1b[0m\x07", "<script>alert(1)</script>", "'\"><img src=x>",
    "../../etc/passwd", "os.system", "builtins.eval", "aten.zeros.default", "aten.add_.Tensor",
    "torch.nn.Module", "weight", [], {}, [[]], [[0, 2**40]], [[5, 1]], [[-1, 3]], [2**40, 2**40],
    {"ref": "x"}, {"float": "nan"}, {"tuple": [1]}, {"dtype": "float64"}, {"": ""},
)  # fmt: skip


def main() -> int:
    """Return 0 when everything was read or refused."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("findings"), help="where findings go")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    import ramda_cli.export
    import ramda_cli.pipeline  # noqa: F401  (before the memory is bounded)

    used = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmSize")
    )
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    signal.signal(signal.SIGALRM, _too_long)
    originals = [path.read_bytes() for path in options.files]
    generator = random.Random(options.seed)
    outcomes: Counter[str] = Counter()
    ends = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        while time.monotonic() < ends:
            content = _changed(generator.choice(originals), generator)
            path.write_bytes(content)
            outcome = _try(path)
            outcomes[outcome] += 1
            if outcome.startswith("FINDING"):
                options.keep.mkdir(exist_ok=True)
                name = f"{sum(outcomes.values())}.safetensors"
                (options.keep / name).write_bytes(content)
                print(f"{name}: {outcome}", flush=True)
    for outcome, count in outcomes.most_common():
        print(f"{count:8,}  {outcome.splitlines()[0]}")
    print(f"{sum(outcomes.values()):8,}  in all")
    return int(any(outcome.startswith("FINDING") for outcome in outcomes))


def _try(path: Path) -> str:
    from ramda_cli.errors import RamdaError

    signal.alarm(SECONDS)
    try:
        for step in (_show, _load, _verify):
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    step(path)
            except RamdaError as error:
                if "\n" in str(error) or not error.hint:
                    return f"FINDING: not one line and a hint: {error!r}"
                if step is _load:
                    return f"refused by load: {type(error).__name__}"
        return "loaded"
    except Exception:  # whatever comes out here should not have
        return "FINDING: " + traceback.format_exc()
    finally:
        signal.alarm(0)


def _show(path: Path) -> None:
    from rich.console import Console

    from ramda_cli.file_header import read_header_report
    from ramda_cli.report.html import render_html
    from ramda_cli.report.markdown import render_markdown
    from ramda_cli.report.terminal import render_terminal

    document = read_header_report(path)
    render_terminal(document, Console(file=io.StringIO(), width=80))
    render_markdown(document)
    render_html(document)


def _load(path: Path) -> None:
    from ramda_cli.export import load

    load(path)


def _verify(path: Path) -> None:
    from ramda_cli.pipeline import verify

    verify(path)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def _changed(content: bytes, generator: random.Random) -> bytes:
    match generator.randrange(8):
        case 0:
            return _other_bytes(content, generator)
        case 1:
            return content[: generator.randrange(len(content))]
        case 2:
            length = generator.choice((0, 1, 99_999_999, 100_000_001, 2**40, 2**63, 2**64 - 1))
            return length.to_bytes(8, "little") + content[8:]
        case _:
            return _other_header(content, generator)


def _other_bytes(content: bytes, generator: random.Random) -> bytes:
    changed = bytearray(content)
    end = int.from_bytes(content[:8], "little") if generator.random() < 0.8 else len(content)
    for _ in range(generator.randint(1, 8)):
        changed[generator.randrange(min(end + 8, len(content)))] = generator.randrange(256)
    return bytes(changed)


def _other_header(content: bytes, generator: random.Random) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    document = json.loads(header["__metadata__"]["ramda"])
    for _ in range(generator.randint(1, 3)):
        # A section first, or the longest would get nearly all changes.
        section = generator.choice([*document])
        _change(document, [section, *_walk(document[section], generator)], generator)
    if generator.random() < 0.2:
        _change(header, _walk(header, generator) or ["__metadata__"], generator)
    metadata = header.get("__metadata__")
    if isinstance(metadata, dict) and isinstance(metadata.get("ramda"), str):
        metadata["ramda"] = json.dumps(document)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def _walk(value: Any, generator: random.Random) -> list[Any]:
    """Return a way to somewhere inside."""
    path = []
    while isinstance(value, dict | list) and value and generator.random() < 0.85:
        key = generator.choice([*value]) if isinstance(value, dict) else None
        key = generator.randrange(len(value)) if key is None else key
        path.append(key)
        value = value[key]
    return path


def _change(document: Any, path: list[Any], generator: random.Random) -> None:
    *way, last = path
    for key in way:
        document = document[key]
    siblings = [*document.values()] if isinstance(document, dict) else document
    match generator.randrange(4):
        case 0 if isinstance(document, dict):
            del document[last]
        case 1:
            document[last] = copy.deepcopy(generator.choice(siblings))
        case _:
            document[last] = copy.deepcopy(generator.choice(HOSTILE))


if __name__ == "__main__":
    sys.exit(main())
