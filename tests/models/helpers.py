"""Checks that the tests of this package share."""

import re
from pathlib import Path

import pytest

from ramda_cli.config.schema import ModelConfig
from ramda_cli.errors import ModelError
from ramda_cli.models.loading import load_model

REPOSITORY = Path(__file__).resolve().parents[2]
CIFAR_FILE = REPOSITORY / "configs/cifar10/resnet.py"

TIMM_MODELS = (
    "resnet18",
    "resnet10t",
    "mobilenetv3_small_050",
    "efficientnet_b0",
    "regnetx_002",
    "densenet121",
    "convnext_atto",
    "mixer_s32_224",
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
)


def load(name, **settings):
    return load_model(ModelConfig(name=str(name), **settings))


def refuse(name, message, hint, **settings):
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$") as caught:
        load(name, **settings)
    assert caught.value.hint == hint


def shapes(module):
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
