"""Compiles the CPU kernels with the machine's own C++ compiler, once, and keeps the result."""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

SOURCE = Path(__file__).with_name("cpu.cpp")
_FLAGS = (
    "-std=c++17",
    "-O3",
    # Neither changes a result; with them, choices between two values are vectorised.
    "-fno-math-errno",
    "-fno-trapping-math",
    # Rows of a tile do not overlap: loops over their columns say so.
    "-fopenmp-simd",
    "-shared",
    "-fPIC",
)
# Most of these are refused by some compiler; the first set that compiles is taken.
_VARIANTS = (
    ("-march=native", "-fopenmp", "-mprefer-vector-width=512"),
    ("-march=native", "-fopenmp"),
    ("-march=native",),
    (),
)


logger = logging.getLogger(__name__)


class KernelsUnavailableError(RuntimeError):
    """The kernels cannot be had on this machine; the message says why."""


@lru_cache(maxsize=1)
def load() -> ctypes.CDLL:
    """Return the kernels.

    Raises:
        KernelsUnavailableError: there is no compiler, or it fails.
    """
    compiler = _compiler()
    try:
        built = _directory() / f"cpu-{_fingerprint(compiler)}.so"
        if not built.exists():
            _compile(compiler, built)
        return ctypes.CDLL(str(built))
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise KernelsUnavailableError(f"{compiler} fails: {said[0] if said else error}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise KernelsUnavailableError(f"{compiler} cannot be used: {error}") from error


@lru_cache(maxsize=1)
def available() -> bool:
    """Return whether the kernels can be had; if not, say once what that costs."""
    try:
        load()
    except KernelsUnavailableError as error:
        logger.warning("RAMDA's steps take about ten times as long as they need to: %s", error)
        return False
    return True


def _compiler() -> str:
    candidates = [os.environ.get("CXX"), "c++", "g++", "clang++"]
    found = next((path for name in candidates if name and (path := shutil.which(name))), None)
    if found is None:
        raise KernelsUnavailableError("there is no C++ compiler; install g++ or clang++")
    return found


def _directory() -> Path:
    """Return where libraries are kept. They are executed, so it must be the user's own."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    kept = Path(cache) / "ramda"
    try:
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return Path(_scratch().name)
    ours = not hasattr(os, "getuid") or kept.stat().st_uid == os.getuid()
    return kept if ours and os.access(kept, os.W_OK) else Path(_scratch().name)


@lru_cache(maxsize=1)
def _scratch() -> "tempfile.TemporaryDirectory[str]":
    """Return where libraries last as long as the process; not made before it is needed."""
    return tempfile.TemporaryDirectory(prefix="ramda-", ignore_cleanup_errors=True)


def _fingerprint(compiler: str) -> str:
    """Tell apart what must not share a file: source, compiler, machine."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    parts = [SOURCE.read_bytes(), version, repr((_FLAGS, _VARIANTS)).encode(), _processor()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _processor() -> bytes:
    # -march=native is for this very processor; home directories are shared between machines.
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    kept = [line for line in lines if line.startswith(("flags", "model name", "Features"))]
    return "\n".join([sys.platform, platform.machine(), *sorted(set(kept))]).encode()


def _compile(compiler: str, built: Path) -> None:
    """Write the library whole or not at all, whoever else does the same at the same time."""
    failure: subprocess.CalledProcessError | None = None
    with tempfile.TemporaryDirectory(dir=built.parent) as scratch:
        target = Path(scratch) / built.name
        for variant in _VARIANTS:
            command = [compiler, *_FLAGS, *variant, str(SOURCE), "-o", str(target)]
            try:
                subprocess.run(command, capture_output=True, check=True, timeout=300)
            except subprocess.CalledProcessError as error:
                failure = error
            else:
                target.replace(built)
                return
    if failure is not None:
        raise failure
