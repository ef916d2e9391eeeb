"""Recordings: what is read, what a batch holds, what is held out, and what is told."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from ramda_cli.config.schema import DataConfig
from ramda_cli.data.speech import build_speech
from ramda_cli.data.speech.mels import MelFiles, mel_spectrogram
from ramda_cli.data.speech.utterances import to_ids
from ramda_cli.errors import DataError
from ramda_cli.models.loaded import SpeechPreprocessing
from ramda_cli.models.tacotron2 import CHARACTERS
from tests.data.speech.recordings import write_recordings

pytest.importorskip("librosa")
pytest.importorskip("soundfile")
SETTINGS = SpeechPreprocessing(CHARACTERS, n_mels=8)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_recordings(tmp_path / "lj")


def config(directory: Path, **others: object) -> DataConfig:
    return DataConfig.model_validate({"name": str(directory), "batch_size": 2, **others})


def test_characters_become_ids_without_case_and_accents() -> None:
    assert to_ids("aB", "ab") == (1, 2)
    assert to_ids("É“’#", CHARACTERS) == to_ids("e\"'", CHARACTERS)
    assert 0 not in to_ids(CHARACTERS, CHARACTERS)


def test_a_spectrogram_is_the_log_of_filtered_magnitudes(directory: Path) -> None:
    """Against a discrete Fourier transform written out, of a frame whose window is all inside."""
    import librosa
    import soundfile

    mels = mel_spectrogram(directory / "wavs" / "LJ-5.wav", SETTINGS)
    samples, rate = soundfile.read(directory / "wavs" / "LJ-5.wav")
    assert mels.shape == (1 + len(samples) // 256, 8)
    start = 4 * 256 - 512
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    spectrum = np.abs(np.fft.rfft(samples[start : start + 1024] * window))
    filters = librosa.filters.mel(sr=rate, n_fft=1024, n_mels=8, fmin=0, fmax=8000)
    expected = np.log(np.maximum(filters @ spectrum, 1e-5))
    np.testing.assert_allclose(mels[4], expected, atol=1e-3)


def test_silence_is_the_smallest_number(tmp_path: Path) -> None:
    import soundfile

    soundfile.write(tmp_path / "silence.wav", np.zeros((2000, 2)), 16_000)
    mels = mel_spectrogram(tmp_path / "silence.wav", SETTINGS)
    assert mels.shape[0] == 1 + math.ceil(2000 * 22_050 / 16_000) // 256
    np.testing.assert_allclose(mels, math.log(1e-5), rtol=1e-6)


def test_a_batch_is_padded_and_its_targets_say_where(directory: Path) -> None:
    data = build_speech(config(directory), SETTINGS, seed=0)
    for batches, size in ((data.train, data.train_size), (data.val, data.val_size)):
        seen = 0
        for (text, mels), targets in batches:
            counts = ~targets[..., -1].isnan()
            lengths = counts.sum(dim=1)
            assert targets.shape == (*mels.shape[:2], 9)
            assert int(lengths.max()) == mels.shape[1]
            assert bool((text != 0).any(dim=0).all())
            assert torch.equal(targets[..., :-1][counts], mels[counts])
            assert bool((mels[~counts] == 0).all())
            assert bool(targets[~counts].isnan().all())
            stops = targets[..., -1].nan_to_num()
            assert torch.equal(stops.argmax(dim=1), lengths - 1)
            assert torch.equal(stops.sum(dim=1), torch.ones(len(text)))
            seen += len(text)
        assert seen == size - size % 2 if batches is data.train else size
    assert (data.train_size, data.val_size, data.unit) == (5, 1, "utterances")
    assert data.task.name == "text-to-speech"


def test_a_pass_depends_on_seed_and_number_and_can_begin_anywhere(directory: Path) -> None:
    def batches(seed: int, epoch: int, first: int = 0) -> list[torch.Tensor]:
        data = build_speech(config(directory), SETTINGS, seed=seed)
        data.train.set_epoch(epoch, first=first)
        return [targets for _, targets in data.train]

    def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
        pairs = zip(one, other, strict=True)
        return all(
            a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs
        )

    whole = batches(3, 1)
    assert same(whole, batches(3, 1))
    assert same(whole[1:], batches(3, 1, first=1))
    assert not all(same(whole, batches(3, epoch)) for epoch in range(2, 12))


def test_the_same_is_held_out_whatever_the_seed(directory: Path) -> None:
    one, other = (build_speech(config(directory), SETTINGS, seed=seed) for seed in (0, 1))
    assert torch.equal(next(iter(one.val))[1], next(iter(other.val))[1])
    assert one.fingerprint == other.fingerprint
    assert "1 of 6 utterances are held out" in one.notes[0]


def test_a_list_of_its_own_is_the_validation_split(directory: Path) -> None:
    (directory / "val.csv").write_text("LJ-0|A|A\n")
    data = build_speech(config(directory, val_split="val.csv", limit=3), SETTINGS, seed=0)
    assert (data.train_size, data.val_size, data.notes) == (3, 1, ())


def test_spectrograms_are_kept_and_made_again_for_a_newer_recording(directory: Path) -> None:
    recording = directory / "wavs" / "LJ-0.wav"
    files = MelFiles(directory / "kept", SETTINGS)
    first = files.read(recording)
    (kept,) = (directory / "kept").rglob("*.npy")
    np.save(kept, first + 1)
    np.testing.assert_array_equal(files.read(recording), first + 1)
    late = kept.stat().st_mtime + 10
    os.utime(recording, (late, late))
    np.testing.assert_array_equal(files.read(recording), first)


def test_spectrograms_of_another_data_set_or_recording_are_not_taken(tmp_path: Path) -> None:
    """Not even where IDs are the same, all are kept in one place, and the recording is older."""
    names = ("one", "other")
    one, other = (
        write_recordings(tmp_path / name, pitch_hz=220 * pitch) / "wavs" / "LJ-0.wav"
        for pitch, name in enumerate(names, start=1)
    )
    assert one.stat().st_size == other.stat().st_size
    files = MelFiles(tmp_path / "kept", SETTINGS)
    first = files.read(one)
    os.utime(other, (0, 0))
    np.testing.assert_array_equal(files.read(other), mel_spectrogram(other, SETTINGS))
    assert not np.array_equal(files.read(other), first)

    longer = one.with_name("LJ-5.wav")
    os.utime(longer, (0, 0))
    longer.replace(one)
    np.testing.assert_array_equal(files.read(one), mel_spectrogram(one, SETTINGS))
    assert len(files.read(one)) > len(first)


def test_spectrograms_that_are_kept_with_their_recordings_move_with_them(directory: Path) -> None:
    recording = directory / "wavs" / "LJ-0.wav"
    first = MelFiles(directory, SETTINGS).read(recording)
    (kept,) = directory.rglob("*.npy")
    np.save(kept, first + 1)
    moved = directory.rename(directory.with_name("moved"))
    recording = moved / "wavs" / "LJ-0.wav"
    np.testing.assert_array_equal(MelFiles(moved, SETTINGS).read(recording), first + 1)


def message(where: Path, **settings: object) -> str:
    """Return what reading a whole data set fails with."""
    with pytest.raises(DataError) as caught:
        list(build_speech(config(where, **settings), SETTINGS, seed=0).train)
    return f"{caught.value} | {caught.value.hint}"


def test_what_is_missing_is_told(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = message(directory / "nowhere")
    assert "metadata.csv" in where
    assert "https://keithito.com/LJ-Speech-Dataset/" in where
    (directory / "wavs" / "LJ-1.wav").write_bytes(b"no sound")
    assert "LJ-1.wav" in message(directory)
    (directory / "wavs" / "LJ-1.wav").unlink()
    assert "LJ-1.wav, which does not exist" in message(directory)
    (directory / "metadata.csv").write_text("LJ-0 has no text\n")
    assert "line 1 of" in message(directory)
    (directory / "metadata.csv").write_text("LJ-0|one|one\n")
    assert "too few utterances" in message(directory)
    monkeypatch.setattr("ramda_cli.data.speech.mels.find_spec", lambda name: None)
    (directory / "metadata.csv").write_text("LJ-0|one|one\nLJ-2|two|two\n")
    assert 'pip install "ramda-cli[speech]"' in message(directory)


def test_what_is_wrong_with_a_recording_is_told(directory: Path) -> None:
    import soundfile

    recording = directory / "wavs" / "LJ-1.wav"
    for samples, what in (([0.0, math.nan] * 900, "no finite numbers"), ([], "no samples")):
        soundfile.write(recording, np.array(samples), 22_050, subtype="FLOAT")
        told = message(directory)
        assert f"recording {recording} has {what}" in told.replace("samples that are ", "")
        assert "repair it, or delete it and its line" in told


def test_a_spectrogram_that_was_not_written_whole_is_told(directory: Path) -> None:
    files = MelFiles(directory, SETTINGS)
    files.read(directory / "wavs" / "LJ-0.wav")
    (kept,) = directory.rglob("*.npy")
    for content in (b"", kept.read_bytes()[:-1], b"no array"):
        kept.write_bytes(content)
        with pytest.raises(DataError, match=r"^cannot read .*LJ-0-.*npy$") as caught:
            files.read(directory / "wavs" / "LJ-0.wav")
        assert caught.value.hint == "delete it: it is made again"


def test_what_is_wrong_with_a_list_is_told(directory: Path) -> None:
    path = directory / "metadata.csv"
    lines = path.read_text(encoding="utf-8")
    path.write_text(lines, encoding="utf-8-sig")
    assert build_speech(config(directory), SETTINGS, seed=0).train_size == 5
    path.write_text("LJ-0|Café|Café\n", encoding="latin-1")
    assert message(directory).startswith(f"{path} is not in UTF-8 | save it in that encoding")
    path.write_text("LJ-0|one|one\nLJ-1|Привет|Привет\n", encoding="utf-8")
    told = message(directory)
    assert told.startswith(f"line 2 of {path} says nothing that the model can read: 'Привет' | ")
    assert "abcdefghijklmnopqrstuvwxyz" in told
    for line in ("wavs/LJ-0|one|one", "|one|one", "LJ-0"):
        path.write_text(line)
        assert f"line 1 of {path} is not ID|text|normalised text | mend the line" in message(
            directory
        )
    path.unlink()
    path.mkdir()
    assert message(directory).startswith(f"cannot read {path}: Is a directory")


def test_a_part_of_a_list_is_refused(directory: Path) -> None:
    for settings in ({"train_split": "train[:50%]"}, {"val_split": "train[:50%]"}):
        told = message(directory, **settings)
        assert told.startswith(f"{directory} has no file 'train[:50%]' that lists utterances | ")
        assert "a part of one has to be a file of its own" in told
