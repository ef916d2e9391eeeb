"""Colours that tell groups apart, light and dark, as CSS variables `--c0` to `--c7`."""

from typing import Final

_LIGHT: Final = (
    "#0969da", "#bf8700", "#1a7f37", "#cf222e", "#8250df", "#bc4c00", "#1b7c83", "#bf3989",
)  # fmt: skip
_DARK: Final = (
    "#58a6ff", "#d29922", "#3fb950", "#f85149", "#a371f7", "#f0883e", "#39c5cf", "#db61a2",
)  # fmt: skip

COLORS: Final = len(_LIGHT)
LIGHT: Final = " ".join(f"--c{number}: {color};" for number, color in enumerate(_LIGHT))
DARK: Final = " ".join(f"--c{number}: {color};" for number, color in enumerate(_DARK))
