"""The spectra of a model's weights, and how a terminal shows them."""

import io

import pytest
import torch
from rich.console import Console
from torch import nn

from ramda_cli.observer import SilentObserver
from ramda_cli.optimizers.low_rank import truncate_
from ramda_cli.pipeline.spectra import spectra
from ramda_cli.report.spectra_view import bars, spectra_table
from tests.pipeline.recording import Recorder


def net() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("conv", nn.Conv2d(3, 16, 3))
    model.add_module("depthwise", nn.Conv2d(16, 16, 3, groups=16))
    model.add_module("norm", nn.BatchNorm2d(16))
    model.add_module("fc", nn.Linear(40, 20))
    model.add_module("other", nn.Linear(40, 20))
    model.add_module("dead", nn.Linear(9, 9))
    model.add_module("tiny", nn.Linear(1, 1))
    truncate_(model.fc.weight, 3)
    model.other.weight = model.fc.weight
    model.dead.weight.data.zero_()
    return model


def test_layers_that_could_become_two_have_their_singular_values() -> None:
    model = net()
    found = {entry.name: entry for entry in spectra(model, SilentObserver())}
    assert [*found] == ["conv.weight", "dead.weight"]
    conv = found["conv.weight"]
    assert (conv.rows, conv.cols, conv.largest_paying_rank) == (16, 27, 10)
    expected = torch.linalg.svdvals(model.conv.weight.detach().flatten(1).double())
    assert list(conv.values) == pytest.approx(expected.tolist(), rel=1e-3)


def test_a_rank_keeps_its_share_of_the_energy_and_one_less_does_not() -> None:
    model = net()
    model.other = nn.Linear(40, 20)
    found = {entry.name: entry for entry in spectra(model, SilentObserver())}
    assert found["fc.weight"].ranks[-1].rank == 3
    for entry in found.values():
        squares = torch.tensor(entry.values).double().square()
        for rank in entry.ranks:
            assert rank.size == rank.rank * (entry.rows + entry.cols) / (entry.rows * entry.cols)
            if rank.rank:
                assert squares[: rank.rank].sum() >= 0.999 * rank.energy * squares.sum()
                assert squares[: rank.rank - 1].sum() < 1.001 * rank.energy * squares.sum()
    assert [rank.rank for rank in found["dead.weight"].ranks] == [0, 0, 0, 0]


def test_a_terminal_draws_them() -> None:
    model = net()
    model.other = nn.Linear(40, 20)
    console = Console(file=io.StringIO(), width=90)
    console.print(spectra_table(spectra(model, SilentObserver())))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    fc = next(line for line in lines if line.startswith(" fc"))
    assert fc.split()[:4] == ["fc", "20", "x", "40"]
    assert fc.split()[-1] == "13"
    assert "3, 22.5 %" in fc
    dead = next(line for line in lines if line.startswith(" dead"))
    assert "0, 0.0 %" in dead


def test_bars_are_relative_to_the_largest() -> None:
    assert bars((8.0, 4.0, 1.0, 0.0)) == "█▄▁"
    assert bars((2.0,)) == "█"
    assert bars((0.0, 0.0)) == ""
    assert len(bars(tuple(range(100, 0, -1)))) == 8


def test_a_weight_that_is_not_finite_is_left_out_with_a_note() -> None:
    model = net()
    model.conv.weight.data[0, 0, 0, 0] = float("nan")
    recorder = Recorder()
    assert [entry.name for entry in spectra(model, recorder)] == ["dead.weight"]
    assert recorder.notes == ["conv.weight is not finite and has no singular values"]


def test_a_model_that_is_one_layer_has_none() -> None:
    assert spectra(nn.Linear(20, 20), SilentObserver()) == ()
