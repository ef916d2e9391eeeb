import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from ramda_cli.errors import ModelError
from ramda_cli.models.masks import apply_masks, masked_names


def test_masks_give_what_the_pruned_module_computes_with():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 8))
    prune.ln_structured(model[0], "weight", amount=0.5, n=2, dim=0)
    prune.random_unstructured(model[1], "weight", amount=0.3)
    prune.random_unstructured(model[1], "bias", amount=0.3)
    state = model.state_dict()
    assert masked_names(state) == ["0.weight", "1.bias", "1.weight"]
    applied = apply_masks(state)
    assert applied.keys() == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert torch.equal(applied["0.weight"], model[0].weight)
    assert torch.equal(applied["1.weight"], model[1].weight)
    assert torch.equal(applied["1.bias"], model[1].bias)
    assert "0.weight_orig" in state


@pytest.mark.parametrize("names", [["w_orig"], ["w_mask"], ["w", "w_orig", "w_mask"]])
def test_what_is_not_a_pair_stays(names):
    state = {name: torch.ones(2) for name in names}
    assert apply_masks(state) == state


def test_a_mask_of_another_shape_is_refused():
    state = {"fc.weight_orig": torch.ones(4, 2), "fc.weight_mask": torch.ones(4, 1)}
    with pytest.raises(ModelError, match=r"^fc.weight_mask is \(4, 1\), not \(4, 2\)"):
        apply_masks(state)
