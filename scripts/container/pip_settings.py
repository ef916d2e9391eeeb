"""Hand the host's pip settings to a container without writing them into the image.

    pip_settings.py DIRECTORY

writes `DIRECTORY/pip_config`, and `DIRECTORY/pip_certificates` where the host names a certificate
bundle, and prints a `SOURCE:TARGET` line for every local package directory that the settings name.
"""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

SETTINGS = {
    "cert",
    "default-timeout",
    "extra-index-url",
    "find-links",
    "index-url",
    "no-index",
    "proxy",
    "retries",
    "timeout",
    "trusted-host",
}
LOCATIONS = {"extra-index-url", "find-links", "index-url"}
CERTIFICATES_TARGET = "/run/secrets/pip_certificates"
DIRECTORY_TARGET = "/run/package-index"


def read_settings() -> dict[str, str]:
    """Return the settings that choose where packages come from, the environment's winning."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.partition(".")
        if section in found and key in SETTINGS:
            found[section][key] = ast.literal_eval(value)
    return found["global"] | found["install"] | found[":env:"]


def local_path(location: str) -> Path | None:
    """Return the path of a `file://` address or of a directory, None for anything else."""
    if location.startswith("file://"):
        return Path(unquote(urlsplit(location).path))
    return Path(location) if Path(location).is_dir() else None


def redirect(settings: dict[str, str]) -> tuple[dict[str, str], dict[Path, str]]:
    """Point local package directories at their place in the container.

    Returns:
        The settings with the new locations, and the mounts as source to target.
    """
    mounts: dict[Path, str] = {}

    def moved(location: str, key: str) -> str:
        path = local_path(location)
        if path is None:
            return location
        # The pages of an index link to files beside it (`../../files/`): its parent is needed.
        source = path if key == "find-links" and path.is_dir() else path.parent
        target = mounts.setdefault(source.resolve(), f"{DIRECTORY_TARGET}/{len(mounts)}")
        return "file://" + (target if source == path else f"{target}/{path.name}")

    redirected = {
        key: " ".join(moved(location, key) for location in value.split())
        if key in LOCATIONS
        else value
        for key, value in settings.items()
    }
    return redirected, mounts


def main() -> None:
    """Write the settings into the directory named by the only argument and print the mounts."""
    directory = Path(sys.argv[1])
    settings, mounts = redirect(read_settings())
    bundle = settings.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE")
    if bundle:
        shutil.copyfile(bundle, directory / "pip_certificates")
        settings["cert"] = CERTIFICATES_TARGET
    lines = [f"{key} = {value}" for key, value in settings.items()]
    (directory / "pip_config").write_text("\n".join(["[global]", *lines, ""]), encoding="utf-8")
    for source, target in mounts.items():
        print(f"{source}:{target}")


if __name__ == "__main__":
    main()
