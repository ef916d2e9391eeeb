"""What cannot shrink stays, and says why; what has no rule stays, and is named."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ramda_cli.structure import discover
from tests.structure.exactness import Net, check_removal, inputs, randomize_

X = inputs(2, 5)
MORE = inputs(7, 5)


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (lambda y: y.softmax(-1), "softmax"),
        (lambda y: y.log_softmax(-1), "softmax"),
        (lambda y: y.cumsum(-1), "cumulative sum"),
        (lambda y: y.sort(-1).values, "sort"),
        (lambda y: y.topk(8, -1).values, "sort"),
        (lambda y: y + y.sum(-1, keepdim=True), "over channels"),
        (lambda y: y - y.amax(-1, keepdim=True), "over channels"),
        (lambda y: y / y.norm(dim=-1, keepdim=True), "a norm over channels"),
        (lambda y: F.normalize(y, dim=-1), "a norm over channels"),
        (lambda y: y + y.max(-1, keepdim=True).values, "over channels"),
        (lambda y: y.roll(1, -1), "rolled"),
        (lambda y: y * torch.arange(8), "meets a dimension that cannot shrink"),
        (lambda y: y.argsort(-1).to(y.dtype), "sort"),
        (lambda y: y.gather(1, (y > 0).long()), "gathered"),
        (lambda y: y[:, (y[0] > 0).long()], "used as an index"),
        (
            lambda y: torch.linalg.solve(torch.eye(8, dtype=y.dtype), y.T).T,
            "no rule for linalg_solve",
        ),
        (lambda y: y[:, torch.arange(8).view(2, 4)].flatten(1), "picked out by an index tensor"),
        (lambda y: torch.fft.fft(y).real, "_fft"),
        (lambda y: torch.cdist(y, y) @ y, "cdist"),
        (lambda y: y.cummax(-1).values, "no rule for cummax"),
        (lambda y: torch.ops.ramda_test.twice(y), "no rule for ramda_test::twice"),
        (lambda y: torch.cond(y.shape[0] > 3, torch.sin, torch.cos, (y,)), "no rule for cond"),
    ],
)
def test_a_layer_before_it_stays_and_one_after_it_is_free(
    operation: Callable[[Tensor], Tensor], reason: str
) -> None:
    net = Net(
        lambda m, x: m.fc2(m.fc1(operation(m.stem(x))).relu()),
        stem=nn.Linear(5, 8), fc1=nn.Linear(8, 6), fc2=nn.Linear(6, 2),
    )  # fmt: skip
    removed = check_removal(net, X, MORE)
    assert removed.channels == {"fc1": 6}
    (why,) = removed.reasons("stem")
    assert reason in why


def test_one_channel_that_is_read_alone_stays() -> None:
    net = Net(
        lambda m, x: (lambda y: m.b(y * y[:, :1]))(m.a(x)), a=nn.Linear(5, 8), b=nn.Linear(8, 2)
    )
    removed = check_removal(net, X, MORE)
    assert removed.channels == {"a": 7}
    assert removed.reasons("a") == ["a single channel is selected"]


@torch.library.custom_op("ramda_test::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return x * 2


@twice.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def test_rows_that_the_input_selects() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.fc1(m.stem(x)).relu()
        chosen = y[y[:, 0] > 0]
        return m.fc2(y) + m.fc2(chosen).sum(0)

    net = Net(forward, stem=nn.Linear(5, 8), fc1=nn.Linear(8, 6), fc2=nn.Linear(6, 2))
    removed = check_removal(net, X, MORE)
    assert removed.channels == {"stem": 8}


def test_a_factory_of_known_size_follows() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.stem(x)
        zeros = torch.zeros(x.shape[0], 3, dtype=x.dtype)
        return m.fc(torch.cat([zeros, y], dim=1) + x.new_ones(x.shape[0], 11))

    net = Net(forward, stem=nn.Linear(5, 8), fc=nn.Linear(11, 2))
    removed = check_removal(net, X, MORE)
    # The reader's first three columns meet constants, so they can go as well.
    assert removed.channels == {"stem": 8, "fc": 3}


def test_nothing_to_remove_is_no_error() -> None:
    structure = discover(randomize_(Net(lambda m, x: m.a(x), a=nn.Linear(5, 3))), X)
    assert structure.groups == ()
    assert {fixed.reason for fixed in structure.fixed} == {
        "the model's input",
        "the model's output",
    }


def test_a_model_without_parameters() -> None:
    assert discover(Net(lambda m, x: x * 2), X).groups == ()


def test_rows_of_an_embedding_stay_and_its_width_is_free() -> None:
    net = Net(
        lambda m, x: m.fc(m.table(x) + m.position(torch.arange(4))),
        table=nn.Embedding(11, 8), position=nn.Embedding(4, 8), fc=nn.Linear(8, 2),
    )  # fmt: skip
    tokens = torch.arange(8).view(2, 4)
    removed = check_removal(net, tokens, torch.arange(3, 11).view(2, 4).repeat(2, 1))
    assert removed.channels == {"table": 8}
    assert removed.smaller.table.embedding_dim == 4
    assert "rows of an embedding" in {fixed.reason for fixed in removed.structure.fixed} or any(
        fixed.reason.startswith("rows of an embedding") for fixed in removed.structure.fixed
    )


def test_an_embedding_tied_to_the_output() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.table(x)
        y = y + m.fc2(m.fc1(y).relu())
        return y @ m.table.weight.t()

    net = Net(forward, table=nn.Embedding(11, 8), fc1=nn.Linear(8, 6), fc2=nn.Linear(6, 8))
    tokens = torch.arange(8).view(2, 4)
    removed = check_removal(net, tokens, tokens.flip(0), moves=False)
    assert removed.channels["fc1"] == 6


def test_two_layers_over_a_feature_map_name_its_positions() -> None:
    net = Net(lambda m, x: m.b(m.a(x).flatten(2).relu()), a=nn.Conv2d(3, 8, 1), b=nn.Linear(36, 2))
    structure = discover(randomize_(net), inputs(2, 3, 6, 6))
    (positions,) = (f for f in structure.fixed if f.name == "b.weight[dim 1]")
    assert (positions.channels, positions.reason) == (36, "positions of a feature map at a")
