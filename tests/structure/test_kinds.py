"""Heads, hidden units and the body of a language model, counted against the configuration."""

import numpy as np
import pytest
import timm
import torch

from ramda_cli.config.schema import TargetConfig
from ramda_cli.errors import ConfigError
from ramda_cli.structure import discover
from ramda_cli.structure.cost import CostModel
from ramda_cli.structure.kinds import attention_heads, hidden_units
from ramda_cli.training import plan_budget
from ramda_cli.training.device_budget import DeviceBudget
from tests.texts.models import model
from tests.zoo.huggingface import TYPES

IDS = torch.arange(5, 12).repeat(2, 1)


def structure_of(kind: str):
    inputs = {"input_ids": IDS, "use_cache": False} if kind == "LlamaForCausalLM" else IDS
    return discover(model(kind), inputs)


@pytest.mark.parametrize(
    ("name", "heads", "units"),
    [
        ("bert", 4 * 4, 4 * 128),
        ("gpt2", 4 * 4, 4 * 128),
        ("llama", 4 * 2, 4 * 128),  # groups of query heads with one key and value each
        ("phi3", 4 * 2, 4 * 128),
        ("t5", None, None),
        ("convnext", 0, None),
    ],
)
def test_what_the_configuration_says(name: str, heads: int | None, units: int | None) -> None:
    kind = TYPES[name]
    cost = CostModel(discover(kind.build(), kind.inputs(0)))
    found = [cost.measure(metric, cost.channels) for metric in ("heads", "ffn")]
    if heads is not None:
        assert found[0] == heads
    if units is not None:
        assert found[1] == units
    assert sum(found) > 0


def test_convolutions_are_neither() -> None:
    resnet = timm.create_model("resnet10t", num_classes=3).eval()
    structure = discover(resnet, torch.zeros(2, 3, 32, 32))
    assert not attention_heads(structure).any()
    assert not hidden_units(structure).any()


def test_a_classifiers_hidden_layer_is_no_feed_forward_layer() -> None:
    structure = structure_of("BertForSequenceClassification")
    kinds = dict(zip((g.name for g in structure.groups), hidden_units(structure), strict=True))
    assert not kinds["bert.pooler.dense"]
    assert kinds["bert.encoder.layer.0.intermediate.dense"]


def test_the_body_of_a_language_model_has_no_vocabulary() -> None:
    structure = structure_of("LlamaForCausalLM")
    cost = CostModel(structure)
    whole, body = (cost.measure(each, cost.channels) for each in ("macs", "body_macs"))
    assert whole - body == 7 * 32 * 64  # tokens, width, words
    params, rest = (cost.measure(each, cost.channels) for each in ("params", "body_params"))
    assert params - rest == 2 * 32 * 64  # the embedding and the layer onto the vocabulary


def test_each_kind_comes_down_to_its_own_share() -> None:
    cost = CostModel(structure_of("BertForSequenceClassification"))
    budget = plan_budget(cost, TargetConfig(heads=0.5, ffn=0.25), floor=0.0)
    scores = np.random.default_rng(0).random(int(cost.channels.sum()))
    zero = budget.choose(scores, budget.counts, exact=True)
    gone = np.bincount(budget.group_of_channel[zero], minlength=cost.channels.size)
    kept = cost.channels - gone
    assert cost.measure("heads", kept) == 4
    assert cost.measure("ffn", kept) == 32
    # Nothing of another kind goes.
    others = ~(cost.depends_on("heads") | cost.depends_on("ffn"))
    assert (gone[others] == 0).all()
    on_device = DeviceBudget(budget, torch.device("cpu"))
    chosen = on_device.choose(torch.from_numpy(scores), torch.from_numpy(budget.counts).double())
    assert (chosen.numpy() == zero).all()


def test_one_kind_alone_leaves_the_other() -> None:
    cost = CostModel(structure_of("BertForSequenceClassification"))
    budget = plan_budget(cost, TargetConfig(heads=0.5), floor=0.0)
    scores = np.zeros(int(cost.channels.sum()))
    zero = budget.choose(scores, budget.counts, exact=True)
    gone = np.bincount(budget.group_of_channel[zero], minlength=cost.channels.size)
    assert gone.sum() == 4
    assert (gone[~attention_heads(structure_of("BertForSequenceClassification"))] == 0).all()


def test_kinds_do_not_go_with_the_whole() -> None:
    with pytest.raises(ConfigError, match="target heads says what of one kind stays, and macs"):
        TargetConfig(heads=0.5, macs=0.5)
