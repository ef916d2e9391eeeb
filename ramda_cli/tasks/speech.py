"""Speaking a text: the frames of a mel spectrogram, and which of them is the last.

Outputs are frames before and after a postnet, and stop logits, side by side: batch x time x
(2 mels + 1). Targets are the true frames and whether each is the last one, batch x time x
(mels + 1), and NaN where a frame is padding. The loss is the mean over frames of

    mean (before - true)² + mean (after - true)² + cross-entropy of the stop logit

as in Tacotron 2 (Shen et al., 2018, arXiv:1712.05884), and so is what is measured.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from ramda_cli.tasks.inputs import ExampleInputs, tensors_of
from ramda_cli.tasks.task import MeanMeter, Meter, Metric

LOSS = Metric("loss", "loss", is_share=False, higher_is_better=False)


class LossMeter(MeanMeter):
    """Sums the losses of frames."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in a batch."""
        targets = targets.to(outputs.device)
        total = float(_losses(outputs, targets).double().sum())
        self.add(total, int(_counts(targets).sum()))


@dataclass(frozen=True)
class TextToSpeech:
    """Frames and stop logits."""

    name: str = "text-to-speech"
    metric: Metric = LOSS

    def read(self, outputs: object, inputs: ExampleInputs) -> Tensor:
        """Return frames before and after the postnet and the stop logits, side by side."""
        before, after, stops = tensors_of(outputs)[:3]
        return torch.cat([before, after, stops[..., None]], dim=2).float()

    def loss(self, outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Return the mean loss of a frame; there are no labels to smooth."""
        return _losses(outputs, targets).sum() / _counts(targets).sum().clamp(min=1)

    def divergence(
        self, outputs: Tensor, taught: Tensor, targets: Tensor, *, temperature: float
    ) -> Tensor:
        """Return the mean squared differences from the teacher's frames."""
        counts = _counts(targets)
        squares = (outputs - taught)[..., :-1].square().mean(dim=2)
        return 2 * torch.where(counts, squares, 0).sum() / counts.sum().clamp(min=1)

    def meter(self) -> Meter:
        """Start a measurement."""
        return LossMeter()


def _counts(targets: Float[Tensor, "n t m"]) -> Bool[Tensor, "n t"]:
    return ~targets[..., -1].isnan()


def _losses(
    outputs: Float[Tensor, "n t o"], targets: Float[Tensor, "n t m"]
) -> Float[Tensor, "n t"]:
    """Return the loss of each frame, 0 where it is padding."""
    # A gradient that passes by a NaN is one, whatever `where` makes of the value.
    true = targets.nan_to_num()
    mels = true.shape[2] - 1
    before, after, stops = outputs.split([mels, mels, 1], dim=2)
    squares = (before - true[..., :-1]).square() + (after - true[..., :-1]).square()
    stop = F.binary_cross_entropy_with_logits(stops[..., 0], true[..., -1], reduction="none")
    return torch.where(_counts(targets), squares.mean(dim=2) + stop, 0)


TEXT_TO_SPEECH = TextToSpeech()
