"""Tacotron 2: what it computes, and that channels of all its layers can be taken out."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import ramda_cli as ramda
from ramda_cli.config.schema import ModelConfig
from ramda_cli.errors import ModelError
from ramda_cli.models.loaded import ModelSource, SpeechPreprocessing
from ramda_cli.models.loading import load_model
from ramda_cli.models.tacotron2 import PADDING, Attention, State, Tacotron2, ZoneoutCell
from ramda_cli.structure import input_channel_structure
from tests.structure.exactness import assert_equal, check_removal, randomize_

SIZES: dict[str, Any] = {
    "n_mels": 4, "encoder": 6, "encoder_layers": 1, "prenet": 5, "hidden": 7, "attention": 6,
    "filters": 3, "filter_width": 5, "postnet": 6, "postnet_layers": 2,
}  # fmt: skip


def tiny() -> Tacotron2:
    torch.manual_seed(0)
    return Tacotron2(**SIZES).eval()


def speech(rows: int, letters: int, frames: int) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(letters)
    text = torch.randint(1, 41, (rows, letters), generator=draws)
    text[-1, letters // 2 :] = PADDING
    return text, torch.randn(rows, frames, 4, generator=draws, dtype=torch.float64)


def test_channels_of_every_layer_can_go_and_the_class_stays(tmp_path: Path) -> None:
    model = tiny()
    others = [speech(3, 9, 5), speech(1, 4, 1)]
    text, mels = model.example_inputs()
    example = text, mels.double()
    removed = check_removal(model, example, *others, moves=False)
    assert removed.channels == {
        "encoder.embedding": 6,
        "encoder.convolutions.0.conv": 6,
        "encoder.lstm": 3,
        "decoder.prenet.0": 5,
        "decoder.prenet.1": 5,
        "decoder.attending": 7,
        "decoder.attention.query": 6,
        "decoder.attention.filters": 3,
        "decoder.decoding": 7,
        "postnet.convolutions.0.conv": 6,
    }
    assert removed.plan.keeps_classes
    assert type(removed.smaller) is Tacotron2
    assert ramda.verify(model, removed.smaller, [example, *others]).passed
    assert_equal(
        model.generate(others[0][0], max_frames=4),
        removed.smaller.generate(others[0][0], max_frames=4),
    )

    support = ramda.identify(model, removed.structure)
    source = ModelSource("package", "tacotron2", SIZES)
    smaller, plan = ramda.remove(model, removed.structure, support, source=source)
    ramda.save(smaller, plan, tmp_path / "model.safetensors")
    again = ramda.load(tmp_path / "model.safetensors")
    assert type(again) is Tacotron2
    for inputs in (example, *others):
        assert_equal(smaller(*inputs), again.double()(*inputs))


def test_a_forward_pass_is_the_equations_written_out() -> None:
    model = randomize_(Tacotron2(**SIZES | {"encoder_layers": 2, "postnet_layers": 3})).eval()
    text, mels = speech(2, 5, 3)
    mels[-1, 2:] = 0
    found = model.double()(text, mels)
    for row in range(2):
        expected = written_out(model, text[row], mels[row])
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one[row], other, rtol=1e-10, atol=1e-10)


def written_out(model: Tacotron2, text: Tensor, mels: Tensor) -> list[Tensor]:
    """Return what one text and its frames must give, padding and all."""
    w = dict(model.named_parameters()) | dict(model.named_buffers())
    is_text, is_frame = (text != PADDING).double(), (mels != 0).any(1).double()

    def conv_norm(x: Tensor, name: str) -> Tensor:
        weight, norm = w[f"{name}.conv.weight"], f"{name}.norm"
        padded = F.pad(x.T, (weight.shape[2] // 2,) * 2).T
        taps = range(weight.shape[2])
        y = torch.stack(
            [sum(weight[..., k] @ padded[at + k] for k in taps) for at in range(len(x))]
        )
        y = y + w[f"{name}.conv.bias"] - w[f"{norm}.running_mean"]
        y = y / (w[f"{norm}.running_var"] + 1e-5).sqrt()
        return y * w[f"{norm}.weight"] + w[f"{norm}.bias"]

    def lstm(x: Tensor, h: Tensor, c: Tensor, name: str, suffix: str = "") -> tuple[Tensor, Tensor]:
        gates = w[f"{name}.weight_ih{suffix}"] @ x + w[f"{name}.bias_ih{suffix}"]
        gates = gates + w[f"{name}.weight_hh{suffix}"] @ h + w[f"{name}.bias_hh{suffix}"]
        enter, forget, new, leave = gates.chunk(4)
        c = forget.sigmoid() * c + enter.sigmoid() * new.tanh()
        return leave.sigmoid() * c.tanh(), c

    x = w["encoder.embedding.weight"][text]
    for layer in range(2):
        x = conv_norm(x, f"encoder.convolutions.{layer}").relu() * is_text[:, None]
    directions = []
    for suffix, order in (("_l0", range(5)), ("_l0_reverse", reversed(range(5)))):
        h = c = torch.zeros(3).double()
        states = {}
        for at in order:
            h, c = lstm(x[at], h, c, "encoder.lstm", suffix)
            states[at] = h
        directions.append(torch.stack([states[at] for at in range(5)]))
    memory = torch.cat(directions, 1)

    keys = memory @ w["decoder.attention.memory.weight"].T
    attending = decoding = (torch.zeros(7).double(),) * 2
    context, past, frame = (torch.zeros(size).double() for size in (6, 5, 4))
    frames, stops, alignments = [], [], []
    for p in (frame, *mels[:-1]):
        for layer in range(2):
            linear = f"decoder.prenet.{layer}"
            p = (w[f"{linear}.weight"] @ p + w[f"{linear}.bias"]).relu()
        new = lstm(torch.cat([p, context]), *attending, "decoder.attending")
        attending = tuple(0.1 * a + 0.9 * b for a, b in zip(attending, new, strict=True))
        query = w["decoder.attention.query.weight"] @ attending[0]
        query = query + w["decoder.attention.query.bias"]
        filters, padded = w["decoder.attention.filters.weight"][:, 0], F.pad(past, (2, 2))
        location = torch.stack([filters @ padded[at : at + 5] for at in range(5)])
        location = location @ w["decoder.attention.location.weight"].T
        energies = (query + keys + location).tanh() @ w["decoder.attention.energy.weight"][0]
        alignment = energies.exp() * is_text
        alignment = alignment / alignment.sum()
        past = past + alignment
        context = alignment @ memory
        new = lstm(torch.cat([attending[0], context]), *decoding, "decoder.decoding")
        decoding = tuple(0.1 * a + 0.9 * b for a, b in zip(decoding, new, strict=True))
        seen = torch.cat([decoding[0], context])
        frames.append(w["decoder.frame.weight"] @ seen + w["decoder.frame.bias"])
        stops.append(w["decoder.stop.weight"][0] @ seen + w["decoder.stop.bias"][0])
        alignments.append(alignment)

    y = before = torch.stack(frames)
    for layer in range(3):
        y = conv_norm(y * is_frame[:, None], f"postnet.convolutions.{layer}")
        y = y.tanh() if layer < 2 else y
    return [before, before + y, torch.stack(stops), torch.stack(alignments)]


def test_no_convolution_sees_padding() -> None:
    model = randomize_(Tacotron2(**SIZES | {"encoder_layers": 2, "postnet_layers": 3})).eval()
    model.double()
    text, mels = speech(1, 9, 3)
    longer = F.pad(text, (0, 3), value=PADDING)
    read: list[Tensor] = []
    model.encoder.lstm.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    for each in (text, longer):
        model.encoder(each)
    torch.testing.assert_close(
        read[1], read[0].new_zeros(1, 12, 6).index_copy(1, torch.arange(9), read[0])
    )

    alone = model(text, mels)
    for one, other in zip(alone[:3], model(text, F.pad(mels, (0, 0, 0, 4)))[:3], strict=True):
        torch.testing.assert_close(other[:, :3], one)


def test_frames_depend_on_earlier_ones_alone() -> None:
    model = tiny().double()
    text, mels = speech(2, 6, 5)
    before, _, stops, alignments = model(text, mels)
    changed = mels.clone()
    changed[:, 2:] += 1
    other = model(text, changed)
    assert torch.equal(before[:, :3], other[0][:, :3])
    assert torch.equal(stops[:, :3], other[2][:, :3])
    assert not torch.allclose(before[:, 3:], other[0][:, 3:])
    assert alignments.shape == (2, 5, 6)
    torch.testing.assert_close(alignments.sum(dim=2), torch.ones(2, 5, dtype=torch.float64))
    assert bool((alignments[-1, :, 3:] == 0).all())


def test_speaking_is_the_forward_pass_on_its_own_frames() -> None:
    model = randomize_(tiny())
    text, _ = speech(2, 6, 1)
    torch.nn.init.constant_(model.decoder.stop.bias, -100.0)
    spoken, lengths = model.generate(text, max_frames=4)
    assert lengths.tolist() == [4, 4]
    frames = torch.zeros_like(spoken)
    for _ in range(4):
        frames = model(text, frames)[0]
    torch.testing.assert_close(model(text, frames)[1], spoken)
    torch.nn.init.constant_(model.decoder.stop.bias, 100.0)
    spoken, lengths = model.generate(text, max_frames=4)
    assert (spoken.shape, lengths.tolist()) == ((2, 1, 4), [1, 1])


def test_what_one_text_says_ends_before_another_does() -> None:
    model = randomize_(tiny())
    text = torch.randint(1, 41, (8, 6), generator=torch.Generator().manual_seed(0))
    stops = model(text, torch.zeros(8, 1, 4).double())[2]
    with torch.no_grad():
        model.decoder.stop.bias -= stops.median()
    spoken, lengths = model.generate(text, max_frames=4)
    assert len(set(lengths.tolist())) > 1
    for row, length in enumerate(lengths.tolist()):
        alone, again = model.generate(text[row : row + 1], max_frames=4)
        assert again.tolist() == [length]
        torch.testing.assert_close(alone[0], spoken[row, :length])


def test_attention_is_its_formula() -> None:
    attention = Attention(3, 2, 4, filters=2, width=3).double()
    draws = torch.Generator().manual_seed(0)
    query, memory, past = (
        torch.randn(*shape, generator=draws, dtype=torch.float64)
        for shape in ((1, 3), (1, 5, 2), (1, 5))
    )
    is_text = torch.tensor([[True, True, True, True, False]])
    filters = attention.filters.weight[:, 0]
    padded = F.pad(past[0], (1, 1))
    energies = []
    for place in range(4):
        feature = filters @ padded[place : place + 3]
        inner = (
            attention.query.weight @ query[0]
            + attention.query.bias
            + attention.memory.weight @ memory[0, place]
            + attention.location.weight @ feature
        )
        energies.append(attention.energy.weight[0] @ torch.tanh(inner))
    expected = torch.cat([torch.stack(energies).softmax(0), torch.zeros(1).double()])
    found = attention(query, attention.memory(memory), past, is_text)[0]
    torch.testing.assert_close(found, expected)


def test_a_cell_keeps_a_tenth_of_its_old_state_on_average() -> None:
    cell = ZoneoutCell(2, 200).double().eval()
    x, old = torch.ones(1, 2).double(), (torch.ones(1, 200).double(), torch.ones(1, 200).double())
    new = torch.nn.LSTMCell.forward(cell, x, old)
    for mixed, before, after in zip(cell.step(x, old), old, new, strict=True):
        torch.testing.assert_close(mixed, 0.1 * before + 0.9 * after)
    torch.manual_seed(0)
    for mixed, before, after in zip(cell.train().step(x, old), old, new, strict=True):
        kept, moved = torch.isclose(mixed, before), torch.isclose(mixed, after)
        assert bool((kept ^ moved).all())
        assert 5 <= int(kept.sum()) <= 40


def test_it_draws_random_numbers_in_training_alone() -> None:
    model = tiny()
    inputs = model.example_inputs()
    assert torch.equal(model(*inputs)[0], model(*inputs)[0])
    model.train()
    assert not torch.equal(model(*inputs)[0], model(*inputs)[0])


def test_the_state_is_as_wide_as_the_weights() -> None:
    model = tiny()
    state = model.decoder.begin(torch.zeros(2, 3, 6))
    assert isinstance(state, State)
    assert [t.shape[1] for t in (*state.attending, *state.decoding, state.context)] == [7] * 4 + [6]


def test_the_papers_groups_are_those_of_convolutions_linears_and_lstms() -> None:
    names = {group.name for group in input_channel_structure(tiny()).groups}
    assert {"decoder.attending.weight_hh", "decoder.decoding.weight_ih"} <= names
    assert {"encoder.lstm.weight_hh_l0_reverse", "postnet.convolutions.0.conv.weight"} <= names
    assert not any("embedding" in name or "norm" in name or "bias" in name for name in names)


def test_it_is_loaded_by_name_with_arguments() -> None:
    loaded = load_model(ModelConfig(name="tacotron2", arguments=SIZES))
    assert loaded.task.name == "text-to-speech"
    assert isinstance(loaded.preprocessing, SpeechPreprocessing)
    assert loaded.preprocessing.n_mels == 4
    assert loaded.source == ModelSource("package", "tacotron2", SIZES)
    with pytest.raises(ModelError, match="octaves"):
        load_model(ModelConfig(name="tacotron2", arguments={"octaves": 2}))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        *(({name: 0}, f"{name} must be a whole number of at least 1, got 0") for name in SIZES),
        ({"width": -1}, "width must be a whole number of at least 1, got -1"),
        ({"hidden": 7.0}, "hidden must be a whole number of at least 1, got 7.0"),
        ({"postnet_layers": True}, "postnet_layers must be a whole number of at least 1, got True"),
        ({"n_mels": "4"}, "n_mels must be a whole number of at least 1, got '4'"),
        ({"encoder": 5}, "encoder must be even, half for each direction, got 5"),
        ({"filter_width": 4}, "filter_width must be odd, so that lengths stay, got 4"),
        ({"width": 2}, "width must be odd, so that lengths stay, got 2"),
        ({"dropout": 1.0}, "dropout must be in [0, 1), got 1.0"),
        ({"dropout": "no"}, "dropout must be in [0, 1), got 'no'"),
    ],
)
def test_sizes_that_it_cannot_have_are_told_as_it_is_built(
    wrong: dict[str, object], told: str
) -> None:
    with pytest.raises(ModelError, match=re.escape(told)):
        load_model(ModelConfig(name="tacotron2", arguments=SIZES | wrong))
