"""A directory laid out like LJSpeech, with sine waves in it."""

from pathlib import Path

import numpy as np
import pytest

TEXTS = ("Hello.", "A longer text, with 'quotes'.", "No", "Café “au lait”!", "yes yes", "Um...")


def write_recordings(directory: Path, *, count: int = 6, pitch_hz: float = 220) -> Path:
    """Write so many tones, number i of (4 + i) times 256 samples."""
    soundfile = pytest.importorskip("soundfile")
    (directory / "wavs").mkdir(parents=True)
    lines = []
    for number in range(count):
        text = TEXTS[number % len(TEXTS)]
        lines.append(f"LJ-{number}|{text.upper()}|{text}")
        at = np.arange((4 + number) * 256) / 22_050
        wave = 0.3 * np.sin(2 * np.pi * pitch_hz * (1 + number) * at)
        soundfile.write(directory / "wavs" / f"LJ-{number}.wav", wave, 22_050)
    (directory / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return directory
