from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from ramda_cli.errors import FileFormatError, ModelError
from ramda_cli.export.dense import dense_module, uniform_module
from ramda_cli.models.loaded import ModelSource
from ramda_cli.structure import discover, identify, zero_
from ramda_cli.structure.running import runner
from ramda_cli.surgery import remove
from tests.export.helpers import Case, resnet, shrunk
from tests.structure.exactness import assert_equal

IDS = torch.tensor([[1, 5, 9, 2], [7, 7, 0, 3]])
SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50,
}  # fmt: skip


def llama(**more: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(intermediate_size=48, num_key_value_heads=2, **SIZES, **more)
    ).eval()


def inputs() -> dict[str, Any]:
    return {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), "use_cache": False}


def bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(intermediate_size=48, **SIZES)).eval()


def source_of(case: Case) -> ModelSource:
    assert case.plan.source is not None
    return case.plan.source


def kept_of(case: Case) -> dict[str, Any]:
    kept = case.plan.to_json()["kept"]
    tied = {name: kept[first] for name, first in case.plan.aliases.items() if first in kept}
    return {**kept, **tied}


def residual() -> Case:
    model = llama(tie_word_embeddings=True)
    structure = discover(model, inputs(), residual=True)
    zero_(model, structure, {group.name: [0] for group in structure.groups})
    smaller, plan = remove(model, structure, identify(model, structure))
    assert "model.embed_tokens.weight" in plan.kept
    return Case(model, smaller, plan, inputs())


@pytest.mark.parametrize(
    "build",
    [
        resnet,
        lambda: shrunk(llama(), inputs()),
        lambda: shrunk(llama(tie_word_embeddings=True), inputs()),
        lambda: shrunk(bert(), {"input_ids": IDS}),
        residual,
    ],
)
def test_dense_tensors_compute_the_same_in_the_dense_class(build: Callable[[], Case]) -> None:
    case = build()
    dense = dense_module(source_of(case), case.smaller.state_dict(), kept_of(case)).eval()
    assert type(dense) is type(case.model)
    assert {n: t.shape for n, t in dense.state_dict().items()} == {
        n: t.shape for n, t in case.model.state_dict().items()
    }
    run = [runner(model, torch.float64)(case.example) for model in (case.model, dense)]
    assert_equal(*run)


def zeroed(model: nn.Module, channels: dict[str, list[int]]) -> Case:
    structure = discover(model, inputs())
    zero_(model, structure, channels)
    smaller, plan = remove(model, structure, identify(model, structure))
    return Case(model, smaller, plan, inputs())


def test_equal_widths_go_into_the_configuration() -> None:
    case = shrunk(llama(), inputs())
    module, source = uniform_module(source_of(case), case.smaller.state_dict())
    settings = source.arguments
    assert settings["intermediate_size"] == 32
    assert (settings["num_attention_heads"], settings["num_key_value_heads"]) == (2, 1)
    assert settings["hidden_size"] == 32
    x = inputs()
    assert torch.equal(module.eval()(**x).logits, case.smaller.eval()(**x).logits)


def test_a_setting_that_cannot_be_doubled_is_left_as_it_is() -> None:
    # Heads of three: a width of 12 is no multiple of twice the four heads.
    sizes = {**SIZES, "hidden_size": 12, "intermediate_size": 16}
    source = ModelSource("huggingface", "BertForSequenceClassification", sizes)
    wanted = {**sizes, "intermediate_size": 14}
    smaller = BertForSequenceClassification(BertConfig(**wanted)).state_dict()
    _, fitted = uniform_module(source, smaller)
    assert fitted.arguments == wanted


def test_widths_that_differ_by_layer_have_no_configuration() -> None:
    case = zeroed(llama(), {"model.layers.0.mlp.gate_proj": [1, 5]})
    with pytest.raises(ModelError) as caught:
        uniform_module(source_of(case), case.smaller.state_dict())
    assert str(caught.value) == (
        "LlamaForCausalLM is built with model.layers.0.mlp.gate_proj.weight of shape (48, 32),"
        " not (46, 32): only ramda_cli.load loads the smaller tensors"
    )
    assert caught.value.hint.startswith("--layout dense")


def test_sizes_that_the_configuration_refuses_are_no_damaged_file() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(intermediate_size=48, num_key_value_heads=4, **SIZES)
    heads = {f"model.layers.{layer}.self_attn.q_proj": [0] for layer in (0, 1)}
    case = zeroed(LlamaForCausalLM(config).eval(), heads)
    with pytest.raises(ModelError, match=r"\(3\): only ramda_cli.load loads") as caught:
        uniform_module(source_of(case), case.smaller.state_dict())
    assert caught.value.hint.startswith("--layout dense")


@pytest.mark.parametrize(
    ("kept", "fits"),
    [
        ({"0": [[0, 2], [3, 5]]}, True),
        ({"0": [[0, 4]]}, True),
        ({"0": [[0, 3]]}, False),
        ({"0": [[0, 2], [4, 6]]}, False),
        ({"0": [[3, 5], [0, 2]]}, False),
        ({"0": [[0, 3], [2, 3]]}, False),
        ({"0": [[0, 2**40]]}, False),
        ({"0": [["0", 4]]}, False),
        ({"0": 4}, False),
        ([], False),
        (None, False),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(
    monkeypatch: pytest.MonkeyPatch, kept: Any, fits: bool
) -> None:
    monkeypatch.setattr("ramda_cli.export.dense.build_module", lambda _: nn.Linear(2, 5))
    smaller = {"weight": torch.ones(4, 2), "bias": torch.ones(5)}
    source = ModelSource("timm", "any")
    if fits:
        weight = dense_module(source, smaller, {"weight": kept}).state_dict()["weight"]
        assert weight.sum() == 8
    else:
        with pytest.raises(FileFormatError, match="its plan does not fit weight"):
            dense_module(source, smaller, {"weight": kept})


def test_a_tensor_that_the_class_needs_is_named() -> None:
    case = resnet()
    state = case.smaller.state_dict()
    del state["fc.bias"]
    with pytest.raises(ModelError, match=r"resnet10t needs fc\.bias"):
        dense_module(source_of(case), state, kept_of(case))
