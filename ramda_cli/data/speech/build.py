"""From a directory of recordings to loaders."""

from pathlib import Path

import numpy as np
from datasets import Dataset

from ramda_cli.config.schema import DataConfig
from ramda_cli.data.bundle import DataBundle
from ramda_cli.data.images import HOLDOUT_SEED, limited_indices
from ramda_cli.data.speech.collating import SpeechCollator
from ramda_cli.data.speech.mels import MelFiles
from ramda_cli.data.speech.utterances import METADATA, Utterance, fingerprint, read_utterances
from ramda_cli.data.text.batches import TextBatches
from ramda_cli.errors import DataError
from ramda_cli.models.loaded import SpeechPreprocessing
from ramda_cli.tasks import TEXT_TO_SPEECH

_HELD_OUT = 0.05
"""An epoch of LJSpeech is long, and its loss is a mean over hundreds of frames an utterance."""


def build_speech(
    config: DataConfig, preprocessing: SpeechPreprocessing, *, seed: int
) -> DataBundle:
    """List a directory laid out like LJSpeech, and build training and validation loaders.

    Spectrograms are kept below `config.data_dir`, or below the directory itself. `train_split` and
    `val_split` name files other than `metadata.csv`; without the latter a twentieth of the
    utterances is held out, the same ones in every run.

    Args:
        config: the directory and how to read it.
        preprocessing: of the model.
        seed: of the order. What is held out does not depend on it.

    Raises:
        DataError: a file or librosa is missing, or there are too few utterances.
    """
    directory = Path(config.name).expanduser()
    characters = preprocessing.characters
    train = read_utterances(directory, config.train_split or METADATA, characters)
    notes: tuple[str, ...] = ()
    if config.val_split is not None:
        val = read_utterances(directory, config.val_split, characters)
    else:
        whole = train
        train, val = _divide(whole)
        notes = (
            f"{directory} has no validation split: {len(val):,} of {len(whole):,} utterances are"
            " held out, the same ones in every run",
        )
    if not train or not val:
        raise DataError(
            f"{directory} has too few utterances to train and to validate on",
            hint="give at least 2, or a separate list with data.val_split",
        )
    chosen = limited_indices(len(train), config.limit, seed=seed)
    limited = train if chosen is None else [train[index] for index in chosen]
    collate = SpeechCollator(MelFiles(config.data_dir or directory, preprocessing))
    return DataBundle(
        train=TextBatches(
            _rows(limited), collate, batch_size=config.batch_size, shuffle=True, seed=seed
        ),
        val=TextBatches(
            _rows(val), collate, batch_size=config.eval_batch_size, shuffle=False, seed=0
        ),
        class_names=(),
        train_size=len(limited),
        val_size=len(val),
        description=(
            f"{directory}: {len(limited):,} training and {len(val):,} validation utterances"
        ),
        fingerprint=fingerprint([*train, *val]),
        notes=notes,
        task=TEXT_TO_SPEECH,
        unit="utterances",
    )


def _divide(utterances: list[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """Hold out a random twentieth, at least one where there are two."""
    order = np.random.default_rng(HOLDOUT_SEED).permutation(len(utterances))
    count = max(1, round(_HELD_OUT * len(utterances)))
    parts = np.sort(order[count:]), np.sort(order[:count])
    train, val = ([utterances[index] for index in part] for part in parts)
    return train, val


def _rows(utterances: list[Utterance]) -> Dataset:
    return Dataset.from_dict(
        {
            "input_ids": [list(one.ids) for one in utterances],
            "recording": [str(one.path) for one in utterances],
        }
    )
