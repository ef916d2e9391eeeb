"""The widths of layers are those of the tensors that were written."""

from typing import Any

import torch
from torch import Tensor, nn

from ramda_cli.pipeline.layers import layer_entries
from ramda_cli.structure import discover, identify, zero_
from ramda_cli.surgery import remove


class Odd(nn.Module):
    """Depthwise and transposed convolutions, a shared width, a table and an input projection."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.same = nn.Conv2d(8, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 6, 2)
        self.table = nn.Embedding(12, 6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.first(x))
        x = self.norm(x + self.same(x)).relu()
        x = self.up(x).relu().mean(dim=(2, 3))
        return self.fc(x * self.table.weight[0])


def entries(removed: dict[str, list[int]]) -> tuple[dict[str, Any], nn.Module]:
    torch.manual_seed(0)
    model, example = Odd().eval(), torch.rand(2, 3, 8, 8)
    structure = discover(model, example)
    owners = {part.parameter: group.name for group in structure.groups for part in group.coupled}
    zero_(model, structure, {owners[name]: chosen for name, chosen in removed.items()})
    smaller, plan = remove(model, structure, identify(model, structure))
    return {layer.name: layer for layer in layer_entries(model, structure, plan)}, smaller


def test_every_weight_is_listed_in_the_models_order() -> None:
    found, _ = entries({})
    assert [*found] == ["first", "depthwise", "same", "up", "table", "fc"]
    assert [layer.kind for layer in found.values()] == [
        "Conv2d", "Conv2d", "Conv2d", "ConvTranspose2d", "Embedding", "Linear",
    ]  # fmt: skip
    assert [layer.width for layer in found.values()] == [8, 8, 8, 6, 6, 5]
    assert all(layer.kept == layer.width for layer in found.values())


def test_coupled_layers_lose_the_same_and_say_so() -> None:
    found, smaller = entries({"first.weight": [1, 2, 5], "up.weight": [0]})
    assert [layer.kept for layer in found.values()] == [5, 5, 5, 5, 5, 5]
    sizes = {name: tensor.shape for name, tensor in smaller.state_dict().items()}
    assert sizes["first.weight"][0] == 5
    assert sizes["up.weight"][1] == 5
    assert found["first"].groups == found["depthwise"].groups == found["same"].groups
    assert len(found["first"].groups) == 1
    assert found["up"].groups
    assert found["up"].groups != found["first"].groups
    assert found["fc"].groups == ()
