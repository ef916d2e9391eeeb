"""Recurrent layers: a hidden unit goes whole, from all gates, layers and directions."""

import pytest
import torch
from torch import Tensor, nn

from ramda_cli.structure import discover
from tests.structure.exactness import Net, check_removal, indices_of, inputs

SEQUENCES = inputs(3, 6, 5)
MORE = inputs(4, 6, 5, seed=2)


def read_all(m: Net, x: Tensor) -> Tensor:
    return m.out(m.lstm(x)[0])


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_an_lstm_loses_whole_units(layers: int, bidirectional: bool, bias: bool) -> None:
    lstm = nn.LSTM(
        5, 8, num_layers=layers, bidirectional=bidirectional, bias=bias, batch_first=True
    )
    net = Net(read_all, lstm=lstm, out=nn.Linear(8 * (1 + bidirectional), 2))
    removed = check_removal(net, SEQUENCES, MORE, moves=False)
    assert removed.channels == {"lstm": 8}
    assert removed.plan.layout == "native"
    (group,) = removed.structure.groups
    gates = indices_of(group.coupled, "lstm.weight_ih_l0", 0)
    assert gates[3] == [3, 11, 19, 27]
    assert indices_of(group.penalized, "lstm.weight_hh_l0", 1)[3] == [3]
    assert removed.smaller.get_submodule("lstm").hidden_size == 4


def test_what_feeds_an_lstm_is_free() -> None:
    net = Net(
        lambda m, x: m.out(m.lstm(m.into(x).relu())[0]),
        into=nn.Linear(5, 6),
        lstm=nn.LSTM(6, 8, batch_first=True),
        out=nn.Linear(8, 2),
    )
    removed = check_removal(net, SEQUENCES, MORE, moves=False)
    assert removed.channels == {"into": 6, "lstm": 8}
    assert removed.smaller.get_submodule("lstm").input_size == 3


def test_the_last_states_are_the_same_units() -> None:
    net = Net(
        lambda m, x: m.out(torch.cat([m.lstm(x)[1][0][0], m.lstm(x)[1][1][0]], 1)),
        lstm=nn.LSTM(5, 8, batch_first=True),
        out=nn.Linear(16, 2),
    )
    removed = check_removal(net, SEQUENCES, MORE, moves=False)
    assert removed.channels == {"lstm": 8}


def test_states_from_outside_keep_their_size() -> None:
    class Given(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(5, 8, num_layers=2, batch_first=True)
            self.out = nn.Linear(8, 2)

        def forward(self, x: Tensor, state: Tensor) -> Tensor:
            return self.out(self.lstm(x, (state, state))[0])

    structure = discover(Given(), (SEQUENCES.float(), torch.randn(2, 3, 8)))
    assert structure.groups == ()


def test_an_lstm_with_projections_stays() -> None:
    lstm = nn.LSTM(5, 8, proj_size=4, batch_first=True)
    structure = discover(Net(read_all, lstm=lstm, out=nn.Linear(4, 2)), SEQUENCES.float())
    assert structure.groups == ()
    assert any("lstm" in fixed.reason for fixed in structure.fixed)


class Steps(nn.Module):
    """An LSTM cell over a sequence, with zero states as wide as its weights say."""

    def __init__(self, *, bias: bool, readers: int) -> None:
        super().__init__()
        self.into = nn.Linear(5, 6)
        self.cell = nn.LSTMCell(6, 8, bias=bias)
        self.out = nn.Linear(8 * readers, 2)
        self.readers = readers

    def forward(self, x: Tensor) -> Tensor:
        hidden = cell = self.cell.weight_hh.new_zeros(len(x), self.cell.weight_hh.shape[1])
        for step in range(x.shape[1]):
            hidden, cell = self.cell(self.into(x[:, step]).relu(), (hidden, cell))
        return self.out(torch.cat([hidden, cell][: self.readers], dim=1))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("readers", [1, 2])
def test_a_cell_loses_whole_units_at_every_step(bias: bool, readers: int) -> None:
    longer = inputs(4, 5, 5, seed=2)
    net = Steps(bias=bias, readers=readers)
    removed = check_removal(net, inputs(3, 2, 5), longer, moves=False)
    assert removed.channels == {"into": 6, "cell": 8}
    assert removed.plan.keeps_classes
    group = removed.structure.group("cell")
    assert indices_of(group.coupled, "cell.weight_ih", 0)[3] == [3, 11, 19, 27]
    assert indices_of(group.penalized, "cell.weight_hh", 1)[3] == [3]
    cell = removed.smaller.get_submodule("cell")
    assert (cell.input_size, cell.hidden_size) == (3, 4)


def test_states_of_a_cell_from_outside_keep_their_size() -> None:
    net = Net(lambda m, x: m.out(m.cell(x, (x, x))[0]), cell=nn.LSTMCell(5, 5), out=nn.Linear(5, 2))
    structure = discover(net, inputs(3, 5).float())
    assert structure.groups == ()
