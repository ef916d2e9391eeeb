import re

import pytest
import timm

from ramda_cli.errors import ModelError
from ramda_cli.models.building import build_module
from ramda_cli.models.loaded import ModelSource


def refuse(source, message, hint):
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$") as caught:
        build_module(source)
    assert caught.value.hint == hint


def test_a_file_is_never_run_from_its_name(tmp_path):
    path = tmp_path / "evil.py"
    path.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    refuse(
        ModelSource("file", f"{path}:f"),
        f"this model was built by {path}:f, and RAMDA does not run code that a file names",
        "pass the factory yourself if you trust it: its code is needed to build the model",
    )
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["hf-hub:org/name", "local-dir:/tmp", "resnet9000"])
def test_only_registered_architectures_are_built(name):
    refuse(
        ModelSource("timm", name),
        f"timm {timm.__version__} has no model {name!r}",
        "install the timm version that the file names, or a newer one",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"checkpoint_path": "weights.pth"},
        {"pretrained": True},
        {"pretrained_cfg": {"file": "weights.pth"}},
        {"pretrained_cfg_overlay": {"file": "weights.pth"}},
        {"norm_layer": print},
        {"widths": [1, object()]},
    ],
)
def test_arguments_that_reach_outside_are_refused(arguments):
    key = next(iter(arguments))
    refuse(
        ModelSource("timm", "resnet10t", arguments),
        f"the argument {key!r} of resnet10t is not allowed in a model description",
        "the file was damaged or made by hand; do not use it",
    )


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "letters-resnet",
            {"num_classes": 3},
            "this version of RAMDA ships no model 'letters-resnet'",
        ),
        (
            "digits-resnet",
            {"widths": [1 << 30]},
            "digits-resnet cannot be built with such arguments: "
            "_digits_resnet() got an unexpected keyword argument 'widths'",
        ),
    ],
)
def test_only_packaged_models_are_built(name, arguments, message):
    refuse(
        ModelSource("package", name, arguments),
        message,
        "update ramda-cli",
    )
