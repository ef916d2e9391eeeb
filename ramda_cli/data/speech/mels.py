"""Mel spectrograms of recordings: log max(|STFT| filtered, 1e-5), by librosa, kept on disk.

A spectrogram is computed when it is first needed and kept as `ID-BYTES.npy`, float32 frames x mels,
with the size of its recording, in a directory of its own for each setting and each directory of
recordings; one that is older than its recording is computed again.
"""

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ramda_cli.errors import DataError
from ramda_cli.models.loaded import SpeechPreprocessing

Mels = npt.NDArray[np.float32]
"""Frames x mels."""

_QUIETEST = 1e-5
_MEND = "repair it, or delete it and its line of the list; none is skipped silently"


class MelFiles:
    """The spectrograms of a data set.

    Args:
        directory: below which they are kept.
        settings: of the transform.

    Raises:
        DataError: librosa is missing.
    """

    def __init__(self, directory: Path, settings: SpeechPreprocessing) -> None:
        if find_spec("librosa") is None or find_spec("soundfile") is None:
            raise DataError(
                "recordings are read by librosa, which is not installed",
                hint='pip install "ramda-cli[speech]"',
            )
        self._below = directory
        self._settings = settings
        facts = (
            settings.sampling_rate_hz, settings.n_fft, settings.hop, settings.n_mels,
            settings.min_hz, settings.max_hz,
        )  # fmt: skip
        self._directory = directory / "-".join(["mels", *(f"{fact:g}" for fact in facts)])

    def read(self, recording: Path) -> Mels:
        """Return the spectrogram of a recording.

        Raises:
            DataError: the recording cannot be read, or the spectrogram not be kept.
        """
        try:
            facts = recording.stat()
        except OSError as error:
            raise _unreadable(recording) from error
        path = self._place(recording.parent) / f"{recording.stem}-{facts.st_size}.npy"
        try:
            if path.is_file() and path.stat().st_mtime >= facts.st_mtime:
                return np.load(path, allow_pickle=False)
        except (EOFError, OSError, ValueError) as error:
            raise DataError(f"cannot read {path}", hint="delete it: it is made again") from error
        mels = mel_spectrogram(recording, self._settings)
        self._keep(path, mels)
        return mels

    def _place(self, recordings: Path) -> Path:
        """Return where spectrograms of a directory are, the same one if both have been moved."""
        way = os.path.relpath(recordings.resolve(), self._below.resolve())
        return self._directory / hashlib.sha256(os.fsencode(way)).hexdigest()[:16]

    def _keep(self, path: Path, mels: Mels) -> None:
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                np.save(file, mels, allow_pickle=False)
            unfinished.replace(path)
        except OSError as error:
            raise DataError(
                f"cannot write {path}: {error.strerror}",
                hint="data.data_dir names another directory for the spectrograms",
            ) from error


def mel_spectrogram(recording: Path, settings: SpeechPreprocessing) -> Mels:
    """Compute a spectrogram; several channels are averaged, and another rate is resampled.

    Raises:
        DataError: the recording cannot be read, or has no sound.
    """
    import librosa
    import soundfile

    try:
        samples, rate = soundfile.read(recording, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise _unreadable(recording) from error
    if not len(samples) or not np.isfinite(samples).all():
        what = "samples that are no finite numbers" if len(samples) else "no samples"
        raise DataError(f"recording {recording} has {what}", hint=_MEND)
    sound: Any = samples.mean(axis=1)
    if rate != settings.sampling_rate_hz:
        sound = librosa.resample(sound, orig_sr=rate, target_sr=settings.sampling_rate_hz)
    mels = librosa.feature.melspectrogram(
        y=sound,
        sr=settings.sampling_rate_hz,
        n_fft=settings.n_fft,
        hop_length=settings.hop,
        power=1.0,
        n_mels=settings.n_mels,
        fmin=settings.min_hz,
        fmax=settings.max_hz,
    )
    return np.log(np.maximum(mels, _QUIETEST)).T.astype(np.float32)


def _unreadable(recording: Path) -> DataError:
    return DataError(f"cannot read recording {recording}", hint=_MEND)
