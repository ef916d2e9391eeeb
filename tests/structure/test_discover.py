import pytest
import torch
from torch import Tensor, nn

from ramda_cli.errors import StructureError
from ramda_cli.structure import discover
from tests.structure.exactness import Net, check_removal, inputs, randomize_


def mlp() -> Net:
    return Net(lambda m, x: m.b(m.a(x).relu()), a=nn.Linear(5, 8), b=nn.Linear(8, 2))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(5, 8)
        self.right = nn.Linear(3, 8)
        self.out = nn.Linear(8, 2)

    def forward(self, one: Tensor, other: Tensor) -> dict[str, object]:
        y = (self.left(one) - 2 * self.right(other)).relu()
        return {"logits": self.out(y), "parts": (self.out(y).sum(-1), one > 0)}


ONE, OTHER = inputs(2, 5), inputs(2, 3)
MORE, MORE_OTHER = inputs(6, 5, seed=2), inputs(6, 3, seed=3)


def test_tuple_inputs_and_nested_outputs() -> None:
    removed = check_removal(TwoInputs(), (ONE, OTHER), (MORE, MORE_OTHER), moves=False)
    assert removed.channels == {"left": 8}


@pytest.mark.parametrize("layout", ["native", "graph"])
def test_dict_inputs_whatever_their_order(layout: str) -> None:
    model = TwoInputs() if layout == "native" else Opaque()
    removed = check_removal(
        model,
        {"other": OTHER, "one": ONE},
        {"one": MORE, "other": MORE_OTHER},
        moves=False,
    )
    assert removed.plan.layout == layout


class Opaque(TwoInputs):
    """Reads a size that no weight tells, so that it only runs as a graph when it is smaller."""

    def forward(self, one: Tensor, other: Tensor) -> dict[str, object]:
        y = (self.left(one) - 2 * self.right(other)).relu().view(-1, 2, 4)
        return {"logits": self.out(y.flatten(1)), "parts": (one + 1, one > 0)}


def test_nested_inputs() -> None:
    class Nested(TwoInputs):
        def forward(self, both: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
            return self.out((self.left(both[0]) * self.right(both[1])).view(-1, 2, 4).flatten(1))

    removed = check_removal(Nested(), ((ONE, OTHER),), ((MORE, MORE_OTHER),), moves=False)
    assert removed.plan.layout == "graph"


def test_several_outputs_are_all_fixed() -> None:
    net = Net(
        lambda m, x: (lambda y: (m.b(y), y[:, :3]))(m.a(x)), a=nn.Linear(5, 8), b=nn.Linear(8, 2)
    )
    removed = check_removal(net, ONE, MORE)
    assert removed.channels == {"a": 5}
    assert removed.reasons("a") == ["the model's output"]


def test_a_batch_of_one_is_enough() -> None:
    check_removal(mlp(), ONE[:1], ONE, MORE)


def test_a_model_whose_batch_size_is_fixed() -> None:
    net = Net(lambda m, x: m.b(m.a(x).relu().view(2, 8)), a=nn.Linear(5, 8), b=nn.Linear(8, 2))
    assert check_removal(net, ONE).channels == {"a": 8}


def test_discovery_leaves_the_model_as_it_was() -> None:
    net = mlp()
    net.dropout = nn.Dropout()
    net.train()
    net.b.eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    discover(net, ONE.float())
    assert (net.training, net.b.training, net.dropout.training) == (True, False, True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_keep_patterns() -> None:
    net = Net(
        lambda m, x: m.c(m.b(m.a(x).relu()).relu()),
        a=nn.Linear(5, 8), b=nn.Linear(8, 6), c=nn.Linear(6, 2),
    )  # fmt: skip
    structure = discover(randomize_(net), ONE, keep=["nothing", "a*"])
    assert [group.name for group in structure.groups] == ["b"]
    kept = next(fixed for fixed in structure.fixed if fixed.name == "a")
    assert (kept.channels, kept.reason, kept.operator) == (8, "kept by the pattern a*", "")


def test_names_are_unique() -> None:
    net = Net(
        lambda m, x: (lambda y: m.b(y[:, :5]) + m.c(y[:, 5:]))(m.a(x)),
        a=nn.Linear(5, 8), b=nn.Linear(5, 2), c=nn.Linear(3, 2),
    )  # fmt: skip
    assert check_removal(net, ONE, MORE).channels == {"a": 5, "a#2": 3}


def test_a_weight_along_both_dimensions_penalizes_one() -> None:
    net = Net(
        lambda m, x: m.b((m.a(x) @ m.w).relu() @ m.w.t()),
        a=nn.Linear(5, 4), b=nn.Linear(4, 2), w=nn.Parameter(torch.empty(4, 6)),
    )  # fmt: skip
    removed = check_removal(net, ONE, MORE, moves=False)
    assert removed.channels == {"a": 4}
    assert removed.reasons("w") == ["w is already penalized along another dimension"]


def test_what_cannot_be_exported_says_so() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        return m.a(x) if float(x.sum()) > 0 else x

    with pytest.raises(StructureError, match=r"^Net cannot be exported by torch\.export: "):
        discover(Net(forward, a=nn.Linear(5, 5)), ONE.float())


def test_a_model_that_counts_its_calls_is_refused() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        m.calls.add_(1)
        return m.b(m.a(x)) * m.calls

    net = mlp()
    net.function = forward
    net.register_buffer("calls", torch.zeros(()))
    with pytest.raises(StructureError, match="Net updates calls in evaluation mode"):
        discover(net, ONE.float())


def test_an_input_changed_in_place_is_no_output() -> None:
    net = Net(
        lambda m, x: m.b(m.a(torch.relu_(x)).view(-1, 2, 4).flatten(1)),
        a=nn.Linear(5, 8), b=nn.Linear(8, 2),
    )  # fmt: skip
    removed = check_removal(net, ONE.clone(), MORE.clone(), moves=False)
    assert removed.plan.layout == "graph"


def test_a_parameter_that_nothing_reads() -> None:
    net = mlp()
    net.unused = nn.Parameter(torch.empty(4, 4))
    removed = check_removal(net, ONE, MORE)
    assert removed.reasons("unused") == ["no weight reads these channels"]
    assert removed.smaller.unused.shape == (4, 4)
