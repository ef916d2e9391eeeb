"""Transformers architectures from a file's own words: plain settings, known classes, no network."""

import re

import pytest
import torch

from ramda_cli.errors import ModelError
from ramda_cli.models.building import build_module
from ramda_cli.models.huggingface import describe_huggingface
from ramda_cli.models.loaded import ModelSource
from ramda_cli.models.sources import infer_source
from tests.zoo.huggingface import TYPES


@pytest.mark.parametrize("name", ["bert", "llama", "t5", "whisper", "swin"])
def test_a_model_is_recognised_and_built_again(name: str) -> None:
    model = TYPES[name].build()
    source = infer_source(model)
    assert source is not None
    assert (source.kind, source.name) == ("huggingface", type(model).__name__)
    built = build_module(source)
    shapes = [{k: t.shape for k, t in m.state_dict().items()} for m in (model, built)]
    assert shapes[0] == shapes[1]
    with torch.device("meta"):
        assert build_module(source).state_dict().keys() == model.state_dict().keys()


def test_other_modules_are_none_of_transformers() -> None:
    assert describe_huggingface(torch.nn.Linear(2, 2)) is None


@pytest.mark.parametrize("name", ["AutoModel", "BertConfig", "pipeline", "os", "a.b", "Missing"])
def test_only_model_classes_are_built(name: str) -> None:
    with pytest.raises(ModelError, match=re.escape(f"has no model class {name!r}")):
        build_module(ModelSource("huggingface", name, {}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auto_map", {"AutoModel": "evil--code"}),
        ("quantization_config", {"quant_method": "gptq"}),
        ("use_timm_backbone", True),
        ("hidden_act", print),
    ],
)
def test_settings_that_reach_outside_are_refused(key: str, value: object) -> None:
    source = ModelSource("huggingface", "BertModel", {key: value})
    with pytest.raises(ModelError, match=f"{key!r} of BertModel is not allowed"):
        build_module(source)


def test_they_are_refused_in_a_configuration_inside_another() -> None:
    arguments = {"text_config": {"layers": [{"_attn_implementation": "org/kernels"}]}}
    with pytest.raises(ModelError, match=r"'_attn_implementation' of CLIPModel is not allowed"):
        build_module(ModelSource("huggingface", "CLIPModel", arguments))
