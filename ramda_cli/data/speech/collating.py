"""From utterances to what a model takes and what its task aims at."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ramda_cli.data.speech.mels import MelFiles
from ramda_cli.tasks.inputs import ExampleInputs


class SpeechCollator:
    """Pads texts with the id 0 and frames with 0; their targets with NaN.

    Args:
        mels: of the recordings.
    """

    def __init__(self, mels: MelFiles) -> None:
        self._mels = mels

    def __call__(self, rows: list[dict[str, Any]], *key: int) -> tuple[ExampleInputs, Tensor]:
        """Return texts n x l and frames n x t x m; targets n x t x (m + 1), the last of a stop."""
        texts = [torch.tensor(row["input_ids"]) for row in rows]
        mels = [torch.from_numpy(self._mels.read(Path(row["recording"]))) for row in rows]
        aims = [torch.cat([each, _last(len(each))], dim=1) for each in mels]
        inputs = pad_sequence(texts, batch_first=True), pad_sequence(mels, batch_first=True)
        return inputs, pad_sequence(aims, batch_first=True, padding_value=torch.nan)


def _last(frames: int) -> Tensor:
    stop = torch.zeros(frames, 1)
    stop[-1] = 1
    return stop
