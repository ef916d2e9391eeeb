import pytest
import torch
from torch import nn

from ramda_cli.errors import ModelError
from ramda_cli.models.building import build_module
from ramda_cli.models.files import load_factory
from ramda_cli.models.heads import adapt_head, find_head, replace_head_
from tests.models.helpers import CIFAR_FILE, TIMM_MODELS, load, shapes

NAME = f"{CIFAR_FILE}:resnet20"


def test_the_same_number_of_classes_changes_nothing():
    loaded = load("digits-resnet")
    assert adapt_head(loaded, 10) is loaded


def test_only_the_head_is_new_and_the_original_is_kept():
    loaded = load("digits-resnet")
    adapted = adapt_head(loaded, 4)
    assert loaded.module.fc.out_features == 10
    assert adapted.module.fc.out_features == adapted.num_classes == 4
    assert not adapted.module.training
    before, after = loaded.module.state_dict(), adapted.module.state_dict()
    kept = [name for name in before if not name.startswith("fc.")]
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert adapted.source.arguments == {"num_classes": 4}
    assert adapted.notes == (
        "the head of digits-resnet had 10 outputs and the data has 4 classes: a new head starts "
        "from random weights",
    )


def test_a_new_head_follows_the_seed_and_leaves_the_process_alone():
    loaded = load("digits-resnet")
    before = torch.get_rng_state()
    first, same, other = (adapt_head(loaded, 4, seed=s).module.fc.weight for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", TIMM_MODELS)
def test_a_timm_model_is_rebuilt_from_its_source(name):
    loaded = load(name, pretrained=False)
    adapted = adapt_head(loaded, 7)
    for model in (loaded, adapted):
        with torch.device("meta"):
            rebuilt = build_module(model.source)
        assert shapes(rebuilt) == shapes(model.module)
        assert not rebuilt.training
    with torch.no_grad():
        assert adapted.module(*adapted.example_inputs).shape == (2, 7)


def test_a_file_model_is_rebuilt_with_its_factory():
    adapted = adapt_head(load(NAME), 3)
    assert adapted.source.arguments == {"num_classes": 3, "head": "linear"}
    factory, _ = load_factory(NAME)
    assert shapes(build_module(adapted.source, factory=factory)) == shapes(adapted.module)


def test_a_convolution_may_be_the_head():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 5, 1)).eval()
    module.append(nn.Flatten())
    images = torch.randn(2, 3, 8, 8)
    assert find_head(module, (images,)) == "2"
    replace_head_(module, "2", 6)
    assert module(images).shape == (2, 6)


def test_the_last_of_several_linear_layers_is_found_by_its_values():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(4, 4)
            self.middle = nn.Linear(4, 4)

        def forward(self, x):
            return self.out(self.middle(x))

    assert find_head(Net(), (torch.randn(2, 4),)) == "out"


def test_an_output_that_no_layer_computes():
    module = nn.Sequential(nn.Linear(4, 4), nn.Softmax(dim=1))
    message = "^the model's head cannot be found: its output is not that of a linear layer or 1 x 1"
    with pytest.raises(ModelError, match=message) as caught:
        find_head(module, (torch.randn(2, 4),))
    assert caught.value.hint == "give the factory as many outputs as the data has classes"
    assert not module[0]._forward_hooks


def test_another_layer_cannot_be_a_head():
    with pytest.raises(ValueError, match="0 must be a Linear or Conv2d, got ReLU"):
        replace_head_(nn.Sequential(nn.ReLU()), "0", 3)
