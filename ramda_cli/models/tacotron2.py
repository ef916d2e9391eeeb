"""Tacotron 2: mel spectrograms from characters, frame by frame, by attention.

Shen et al., "Natural TTS Synthesis by Conditioning WaveNet on Mel Spectrogram Predictions" (2018,
arXiv:1712.05884); its attention looks at where it was before (Chorowski et al., 2015,
arXiv:1506.07503). It differs from the paper where a proof needs a function, and where a graph must
be exportable:

- The prenet drops units in training alone; the paper's drops them when it speaks, too.
- The encoder's LSTM has no zoneout, and reads the zero vectors of padding.

No size but those of the weights is kept, so that the class runs with channels taken out.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from ramda_cli.models.arguments import require_counts, require_probabilities

PADDING = 0
"""Id of no character."""

CHARACTERS = " !'(),-.:;?\"[]abcdefghijklmnopqrstuvwxyz"
"""Character number i has the id i + 1."""


class ConvNorm(nn.Module):
    """BN(conv(x)), of the same length."""

    def __init__(self, in_channels: int, channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, channels, width, padding=width // 2)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Float[Tensor, "n c t"]) -> Float[Tensor, "n d t"]:
        """Return the normalised convolution."""
        return self.norm(self.conv(x))


class Encoder(nn.Module):
    """Characters to features: convolutions with ReLU, then an LSTM in both directions."""

    def __init__(self, channels: int, *, layers: int, width: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(CHARACTERS) + 1, channels, padding_idx=PADDING)
        self.convolutions = nn.ModuleList(
            ConvNorm(channels, channels, width) for _ in range(layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(channels, channels // 2, batch_first=True, bidirectional=True)

    def forward(self, text: Int64[Tensor, "n l"]) -> Float[Tensor, "n l c"]:
        """Return features of every character; no convolution sees padding."""
        is_text = (text != PADDING)[:, None]
        x = self.embedding(text).mT
        for convolution in self.convolutions:
            x = self.dropout(F.relu(convolution(x))) * is_text
        return self.lstm(x.mT)[0]


class Attention(nn.Module):
    """Where to look: softmax over l of vᵀ tanh(W q + V mₗ + U fₗ), f = F * (past alignments)."""

    def __init__(self, query: int, memory: int, channels: int, *, filters: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query, channels)
        self.memory = nn.Linear(memory, channels, bias=False)
        self.filters = nn.Conv1d(1, filters, width, padding=width // 2, bias=False)
        self.location = nn.Linear(filters, channels, bias=False)
        self.energy = nn.Linear(channels, 1, bias=False)

    def forward(
        self,
        query: Float[Tensor, "n q"],
        keys: Float[Tensor, "n l a"],
        past: Float[Tensor, "n l"],
        is_text: Bool[Tensor, "n l"],
    ) -> Float[Tensor, "n l"]:
        """Return the alignment of a frame.

        Args:
            query: state of the attention's LSTM.
            keys: `memory` of what is looked at.
            past: sum of the alignments of earlier frames.
            is_text: what may be looked at.
        """
        location = self.location(self.filters(past[:, None]).mT)
        energies = self.energy(torch.tanh(self.query(query)[:, None] + keys + location))[..., 0]
        return energies.masked_fill(~is_text, -torch.inf).softmax(dim=1)


class State(NamedTuple):
    """What the decoder remembers from frame to frame.

    Attributes:
        attending: output and cell of the attention's LSTM.
        decoding: output and cell of the decoder's LSTM.
        context: what was looked at.
        alignment: where that is.
        past: sum of all alignments.
    """

    attending: tuple[Float[Tensor, "n h"], Float[Tensor, "n h"]]
    decoding: tuple[Float[Tensor, "n h"], Float[Tensor, "n h"]]
    context: Float[Tensor, "n c"]
    alignment: Float[Tensor, "n l"]
    past: Float[Tensor, "n l"]

    @property
    def seen(self) -> Float[Tensor, "n h+c"]:
        """What frame and stop are read off."""
        return torch.cat([self.decoding[0], self.context], dim=1)


class ZoneoutCell(nn.LSTMCell):
    """An LSTM cell that keeps each old state with a probability; in evaluation, its expectation.

    Krueger et al., "Zoneout" (2017, arXiv:1606.01305).
    """

    zoneout = 0.1

    def begin(self, rows: int) -> tuple[Float[Tensor, "n h"], Float[Tensor, "n h"]]:
        """Return zero states."""
        zero = self.weight_hh.new_zeros(rows, self.weight_hh.shape[1])
        return zero, zero

    def step(
        self,
        x: Float[Tensor, "n i"],
        state: tuple[Float[Tensor, "n h"], Float[Tensor, "n h"]],
    ) -> tuple[Float[Tensor, "n h"], Float[Tensor, "n h"]]:
        """Return the next output and cell."""
        hidden, cell = self(x, state)
        return self._mixed(hidden, state[0]), self._mixed(cell, state[1])

    def _mixed(self, new: Tensor, old: Tensor) -> Tensor:
        change = F.dropout(new - old, self.zoneout, self.training)
        return old + (1 - self.zoneout) * change


class Decoder(nn.Module):
    """Frames and stop logits from what the encoder gives."""

    def __init__(
        self, memory: int, n_mels: int, *, prenet: int, hidden: int, attention: Attention
    ) -> None:
        super().__init__()
        self.prenet = nn.ModuleList([nn.Linear(n_mels, prenet), nn.Linear(prenet, prenet)])
        self.attending = ZoneoutCell(prenet + memory, hidden)
        self.attention = attention
        self.decoding = ZoneoutCell(hidden + memory, hidden)
        self.frame = nn.Linear(hidden + memory, n_mels)
        self.stop = nn.Linear(hidden + memory, 1)
        self.dropout = nn.Dropout(0.5)

    def prepare(self, frames: Float[Tensor, "*n m"]) -> Float[Tensor, "*n p"]:
        """Return the prenet's view of earlier frames."""
        for layer in self.prenet:
            frames = self.dropout(F.relu(layer(frames)))
        return frames

    def begin(self, memory: Float[Tensor, "n l c"]) -> State:
        """Return the state before the first frame."""
        rows, length, channels = memory.shape
        nowhere = memory.new_zeros(rows, length)
        return State(
            attending=self.attending.begin(rows),
            decoding=self.decoding.begin(rows),
            context=memory.new_zeros(rows, channels),
            alignment=nowhere,
            past=nowhere,
        )

    def step(
        self,
        prepared: Float[Tensor, "n p"],
        state: State,
        memory: Float[Tensor, "n l c"],
        keys: Float[Tensor, "n l a"],
        is_text: Bool[Tensor, "n l"],
    ) -> State:
        """Return the state after one more frame."""
        attending = self.attending.step(torch.cat([prepared, state.context], 1), state.attending)
        alignment = self.attention(attending[0], keys, state.past, is_text)
        context = (alignment[:, None] @ memory)[:, 0]
        decoding = self.decoding.step(torch.cat([attending[0], context], 1), state.decoding)
        return State(attending, decoding, context, alignment, state.past + alignment)


class Postnet(nn.Module):
    """What convolutions add to a spectrogram: tanh between them, none after the last."""

    def __init__(
        self, n_mels: int, channels: int, *, layers: int, width: int, dropout: float
    ) -> None:
        super().__init__()
        sizes = [n_mels, *([channels] * (layers - 1)), n_mels]
        self.convolutions = nn.ModuleList(
            ConvNorm(before, after, width) for before, after in pairwise(sizes)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, mels: Float[Tensor, "n t m"], is_frame: Bool[Tensor, "n t"]
    ) -> Float[Tensor, "n t m"]:
        """Return the correction; no convolution sees padding."""
        inside = is_frame[:, None]
        x = mels.mT * inside
        *inner, last = self.convolutions
        for convolution in inner:
            x = self.dropout(torch.tanh(convolution(x))) * inside
        return self.dropout(last(x)).mT


class Tacotron2(nn.Module):
    """Tacotron 2; the sizes of the paper when none are given.

    Args:
        n_mels: channels of a spectrogram.
        encoder: channels of the embedding, of the convolutions and of both LSTM directions; even.
        encoder_layers: convolutions of the encoder.
        prenet: units of each of its two layers.
        hidden: units of the attention's and of the decoder's LSTM.
        attention: channels in which query, memory and location meet.
        filters: of the past alignments.
        filter_width: of these, in characters; odd.
        postnet: channels of its convolutions.
        postnet_layers: how many they are.
        width: of all other convolutions; odd.
        dropout: of their outputs; in [0, 1).

    Raises:
        ValueError: a size is no such number.
    """

    def __init__(
        self,
        *,
        n_mels: int = 80,
        encoder: int = 512,
        encoder_layers: int = 3,
        prenet: int = 256,
        hidden: int = 1024,
        attention: int = 128,
        filters: int = 32,
        filter_width: int = 31,
        postnet: int = 512,
        postnet_layers: int = 5,
        width: int = 5,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        require_counts(
            n_mels=n_mels, encoder=encoder, encoder_layers=encoder_layers, prenet=prenet,
            hidden=hidden, attention=attention, filters=filters, filter_width=filter_width,
            postnet=postnet, postnet_layers=postnet_layers, width=width,
        )  # fmt: skip
        if encoder % 2:
            raise ValueError(f"encoder must be even, half for each direction, got {encoder}")
        for name, taps in (("filter_width", filter_width), ("width", width)):
            if not taps % 2:
                raise ValueError(f"{name} must be odd, so that lengths stay, got {taps}")
        require_probabilities(dropout=dropout)
        self.encoder = Encoder(encoder, layers=encoder_layers, width=width, dropout=dropout)
        looking = Attention(hidden, encoder, attention, filters=filters, width=filter_width)
        self.decoder = Decoder(encoder, n_mels, prenet=prenet, hidden=hidden, attention=looking)
        self.postnet = Postnet(n_mels, postnet, layers=postnet_layers, width=width, dropout=dropout)

    def forward(
        self, text: Int64[Tensor, "n l"], mels: Float[Tensor, "n t m"]
    ) -> tuple[
        Float[Tensor, "n t m"], Float[Tensor, "n t m"], Float[Tensor, "n t"], Float[Tensor, "n t l"]
    ]:
        """Predict each frame from the text and the true frames before it.

        Args:
            text: ids of characters, and `PADDING`.
            mels: frames; one that is all zeros is padding.

        Returns:
            Frames before and after the postnet, logits that a frame is the last, and alignments.
        """
        is_text = text != PADDING
        memory = self.encoder(text)
        keys = self.decoder.attention.memory(memory)
        prepared = self.decoder.prepare(F.pad(mels[:, :-1], (0, 0, 1, 0)))
        state = self.decoder.begin(memory)
        seen, alignments = [], []
        for step in range(mels.shape[1]):
            state = self.decoder.step(prepared[:, step], state, memory, keys, is_text)
            seen.append(state.seen)
            alignments.append(state.alignment)
        every = torch.stack(seen, dim=1)
        frames = self.decoder.frame(every)
        stops = self.decoder.stop(every)[..., 0]
        after = frames + self.postnet(frames, (mels != 0).any(dim=2))
        return frames, after, stops, torch.stack(alignments, dim=1)

    def example_inputs(self) -> tuple[Int64[Tensor, "2 l"], Float[Tensor, "2 t m"]]:
        """Return two short texts and very few frames: an exported graph writes out every frame."""
        text = torch.arange(1, 13).view(2, 6)
        text[1, 4:] = PADDING
        draws = torch.Generator().manual_seed(0)
        return text, torch.randn(2, 2, self.decoder.frame.weight.shape[0], generator=draws)

    @torch.no_grad()
    def generate(
        self, text: Int64[Tensor, "n l"], *, max_frames: int = 1000
    ) -> tuple[Float[Tensor, "n t m"], Int64[Tensor, " n"]]:
        """Speak: predict frames from the model's own until all texts have stopped.

        Returns:
            Frames after the postnet, and how many of them each text has.
        """
        is_text = text != PADDING
        memory = self.encoder(text)
        keys = self.decoder.attention.memory(memory)
        state = self.decoder.begin(memory)
        frame = memory.new_zeros(len(text), self.decoder.frame.weight.shape[0])
        lengths = torch.full((len(text),), max_frames, device=text.device)
        frames: list[Tensor] = []
        while len(frames) < max_frames and bool((lengths > len(frames)).any()):
            state = self.decoder.step(self.decoder.prepare(frame), state, memory, keys, is_text)
            frame = self.decoder.frame(state.seen)
            frames.append(frame)
            stops = self.decoder.stop(state.seen)[:, 0] > 0
            lengths = torch.where(stops, lengths.clamp_max(len(frames)), lengths)
        mels = torch.stack(frames, dim=1)
        is_frame = torch.arange(len(frames), device=text.device) < lengths[:, None]
        return mels + self.postnet(mels, is_frame), lengths
