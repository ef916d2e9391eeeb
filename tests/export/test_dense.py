from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Dinov2Config,
    Dinov2Model,
    FalconConfig,
    FalconForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    SwinConfig,
    SwinModel,
    T5Config,
    T5ForConditionalGeneration,
)

from ramda_cli.errors import FileFormatError, ModelError
from ramda_cli.export.dense import dense_module, uniform_module
from ramda_cli.models.huggingface import describe_huggingface
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


def described(model: nn.Module) -> ModelSource:
    found = describe_huggingface(model)
    assert found is not None
    return ModelSource("huggingface", *found)


@pytest.mark.parametrize(
    "prefix",
    [
        "Cohere", "Glm4", "GptOss", "Granite", "Mistral", "Mixtral", "Olmo2", "Phi", "Phi3",
        "Qwen2", "Qwen3", "Qwen3Moe", "SmolLM3", "Starcoder2",
    ],
)  # fmt: skip
def test_fewer_heads_are_as_large_as_before(prefix: str) -> None:
    build = getattr(transformers, f"{prefix}ForCausalLM")
    configure = getattr(transformers, f"{prefix}Config")
    width = "moe_intermediate_size" if prefix == "Qwen3Moe" else "intermediate_size"
    sizes = {**SIZES, width: 48, "num_key_value_heads": 2, "pad_token_id": 0}
    experts = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
    dense = described(build(configure(**sizes, **experts)))
    wanted = {
        "num_attention_heads": 2, "num_key_value_heads": 1, width: 24,
        "head_dim": dense.arguments.get("head_dim") or 8,
    }  # fmt: skip
    smaller = build(configure.from_dict({**dense.arguments, **wanted})).eval()
    module, fitted = uniform_module(dense, smaller.state_dict())
    assert fitted.arguments == {**dense.arguments, **wanted}
    assert torch.equal(module(**inputs()).logits, smaller(**inputs()).logits)


def test_a_ratio_gives_the_width_that_a_class_rounds_down() -> None:
    # 108 / 49 in floating point, times 49, is below 108.
    sizes: dict[str, Any] = {"embed_dim": 49, "depths": [1], "num_heads": [7], "image_size": 16}
    dense = described(SwinModel(SwinConfig(**sizes)))
    assert int(49 * (108 / 49)) == 107
    smaller = SwinModel(SwinConfig(**sizes, mlp_ratio=108.5 / 49))
    _, fitted = uniform_module(dense, smaller.state_dict())
    assert fitted.arguments["mlp_ratio"] == pytest.approx(108 / 49, abs=1e-15)


def test_an_integer_ratio_gives_multiples_alone() -> None:
    def dinov2(ratio: int) -> Dinov2Model:
        sizes = {**SIZES, "image_size": 16, "patch_size": 8}
        return Dinov2Model(Dinov2Config(mlp_ratio=ratio, **sizes))

    dense = described(dinov2(4))
    assert uniform_module(dense, dinov2(3).state_dict())[1].arguments["mlp_ratio"] == 3
    smaller = dinov2(2).state_dict()
    for name, tensor in smaller.items():
        if "fc1" in name:
            smaller[name] = tensor[:48]
        elif "fc2.weight" in name:
            smaller[name] = tensor[:, :48]
    with pytest.raises(ModelError, match=r"fc1\.weight of shape \(128, 32\), not \(48, 32\)"):
        uniform_module(dense, smaller)


def test_the_size_of_a_head_has_one_name() -> None:
    sizes = {"vocab_size": 50, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1}
    dense = described(T5ForConditionalGeneration(T5Config(**sizes, num_heads=4)))
    smaller = T5ForConditionalGeneration(T5Config(**sizes, num_heads=2))
    _, fitted = uniform_module(dense, smaller.state_dict())
    assert fitted.arguments == {**dense.arguments, "num_heads": 2}


def falcon() -> tuple[ModelSource, dict[str, torch.Tensor]]:
    """Return a dense class, and the tensors with half of each feed-forward layer."""
    sizes = {**SIZES, "ffn_hidden_size": 48}
    dense = described(FalconForCausalLM(FalconConfig(**sizes)))
    smaller = FalconForCausalLM(FalconConfig(**{**sizes, "ffn_hidden_size": 24}))
    return dense, smaller.state_dict()


def test_looking_for_settings_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    # Falcon's configuration has a size of heads that cannot be set, and logs that as an error.
    dense, smaller = falcon()
    transformers.logging.enable_propagation()
    try:
        _, fitted = uniform_module(dense, smaller)
    finally:
        transformers.logging.disable_propagation()
    assert caplog.records == []
    assert fitted.arguments == {**dense.arguments, "ffn_hidden_size": 24}


def test_settings_never_grow() -> None:
    # Its heads shrink as there are more of them, so fewer rows look like more heads.
    dense, smaller = falcon()
    for name, tensor in smaller.items():
        if "query_key_value.weight" in name:
            smaller[name] = tensor[:32]
        elif "self_attention.dense.weight" in name:
            smaller[name] = tensor[:, :16]
    with pytest.raises(ModelError, match=r"query_key_value\.weight of shape \(48, 32\)"):
        uniform_module(dense, smaller)


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
