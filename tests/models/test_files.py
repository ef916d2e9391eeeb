import sys
import textwrap

import pytest
import torch

from ramda_cli.config.schema import ModelConfig
from ramda_cli.errors import ModelError
from ramda_cli.models.files import load_factory
from ramda_cli.models.loading import load_model
from tests.models.helpers import REPOSITORY, load, refuse

MODEL = """
import torch
from torch import nn

{variable}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 5)

    def forward(self, x):
        return self.fc(x.mean(dim=(2, 3)))

def net():
    return Net()

def nothing():
    return 3

def broken():
    raise KeyError("width")

def pixels():
    return nn.Conv2d(3, 5, 1)

{attribute}
"""


def write(folder, *, variable="", attribute="", text=None):
    path = folder / "net.py"
    path.write_text(text or textwrap.dedent(MODEL).format(variable=variable, attribute=attribute))
    return path


def test_a_factory_without_preprocessing_gets_that_of_imagenet(tmp_path):
    path = write(tmp_path)
    loaded = load(f"{path}:net")
    assert loaded.preprocessing.input_size == (3, 224, 224)
    assert loaded.preprocessing.mean == (0.485, 0.456, 0.406)
    assert loaded.num_classes == 5
    assert loaded.source.kind == "file"
    assert loaded.source.name == f"{path}:net"
    assert loaded.notes == (f"loading {path}:net ran the Python code of that file",)


def test_the_attribute_wins_over_the_variable(tmp_path):
    size = "dict(input_size=(3, {0}, {0}), mean=(0.5,) * 3, std=(0.1,) * 3)"
    path = write(tmp_path, variable=f"PREPROCESSING = {size.format(16)}")
    assert load(f"{path}:net").preprocessing.input_size == (3, 16, 16)
    path = write(
        tmp_path,
        variable=f"PREPROCESSING = {size.format(16)}",
        attribute=f"net.preprocessing = {size.format(8)}",
    )
    loaded = load(f"{path}:net")
    assert loaded.preprocessing.input_size == (3, 8, 8)
    assert loaded.preprocessing.std == (0.1, 0.1, 0.1)
    resized = load_model(ModelConfig(name=f"{path}:net"), image_size=24)
    assert resized.preprocessing.input_size == (3, 24, 24)


def test_random_weights_follow_the_seed(tmp_path):
    name = f"{write(tmp_path)}:net"
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, same = (load_model(ModelConfig(name=name), seed=4).module.fc.weight for _ in range(2))
    assert torch.equal(one, same)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "given", ["dict(size=3)", "dict(mean=(0.5,))", "[3, 32, 32]", "dict(input_size=(32, 32))"]
)
def test_a_wrong_preprocessing(tmp_path, given):
    path = write(tmp_path, variable=f"PREPROCESSING = {given}")
    refuse(
        f"{path}:net",
        f"PREPROCESSING in {path} is not valid",
        "write dict(input_size=(C, H, W), mean=(...), std=(...)), one mean per channel",
    )


def test_a_missing_file(tmp_path):
    path = tmp_path / "none.py"
    refuse(f"{path}:net", f"no model file {path}", "give it as path/to/file.py:factory")


def test_a_missing_factory(tmp_path):
    path = write(tmp_path)
    refuse(f"{path}:nett", f"{path} has no function 'nett'", f"give {path}:FACTORY; it has net")
    every = "it has Net, net, nothing, broken, pixels"
    refuse(f"{path}", f"{path} needs a factory", f"give {path}:FACTORY; {every}")
    path = write(tmp_path, text="x = 1\n")
    refuse(
        f"{path}:x",
        f"{path} has no function 'x'",
        f"give {path}:FACTORY; it has no functions at all",
    )


def test_a_file_that_cannot_be_run_leaves_no_module_behind(tmp_path):
    path = write(tmp_path, text="import a_module_that_is_not_there\n")
    before = set(sys.modules)
    refuse(
        f"{path}:net",
        f"{path} cannot be run: ModuleNotFoundError: No module named 'a_module_that_is_not_there'",
        f"`python {path}` shows where; RAMDA_DEBUG=1 shows the traceback",
    )
    assert not {name for name in set(sys.modules) - before if name.startswith("ramda_model_")}


def test_a_factory_that_fails(tmp_path):
    path = write(tmp_path)
    refuse(
        f"{path}:broken",
        f"{path}:broken failed: KeyError: 'width'",
        "the factory is called without arguments; RAMDA_DEBUG=1 shows the traceback",
    )


def test_a_factory_that_returns_something_else(tmp_path):
    path = write(tmp_path)
    refuse(
        f"{path}:nothing",
        f"{path}:nothing returned int, not a torch.nn.Module",
        "return the model itself",
    )


def test_outputs_that_are_not_logits(tmp_path):
    path = write(tmp_path)
    refuse(
        f"{path}:pixels",
        f"{path}:pixels does not return logits of shape (batch, classes)",
        "only image classifiers are supported",
    )


def test_images_that_do_not_fit(tmp_path):
    grey = "PREPROCESSING = dict(input_size=(1, 8, 8), mean=(0.5,), std=(0.5,))"
    path = write(tmp_path, variable=grey)
    with pytest.raises(
        ModelError, match=r"net does not take images of shape \(1, 8, 8\): Run"
    ) as e:
        load(f"{path}:net")
    assert e.value.hint == (
        "say what it takes in the file: PREPROCESSING = dict(input_size=(C, H, W), ...)"
    )


def test_misuse_is_a_value_error():
    with pytest.raises(ValueError, match=r"name must be path/to/file.py:factory, got 'resnet50'"):
        load_factory("resnet50")


@pytest.mark.parametrize(
    ("file", "shape", "parameters"),
    [("configs/cifar10/vgg.py:vgg11_half", (3, 32, 32), 2_310_186),
     ("configs/mnist/vit.py:vit", (1, 28, 28), 205_066)],
)  # fmt: skip
def test_the_factories_of_the_configurations(file, shape, parameters):
    loaded = load(REPOSITORY / file)
    assert loaded.preprocessing.input_size == shape
    assert sum(p.numel() for p in loaded.module.parameters()) == parameters
    assert loaded.module(*loaded.example_inputs).shape == (2, 10)
