"""The lock file of the container names what the package needs."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def test_the_lock_has_each_dependency_in_a_version_that_will_do() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = [Requirement(line.rstrip(" \\")) for line in lines if "==" in line]
    versions = {
        canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in locked
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in project["dependencies"]:
        needed = Requirement(text)
        version = versions.get(canonicalize_name(needed.name))
        assert version is not None, f"{needed.name} is not locked: docs/container.md says how"
        assert needed.specifier.contains(version), f"{needed} is locked at {version}"


def test_each_package_of_the_lock_has_a_hash() -> None:
    text = (ROOT / "requirements.lock").read_text()
    for entry in text.replace("\\\n", " ").splitlines():
        if entry and not entry.startswith("#"):
            assert "--hash=sha256:" in entry, entry
