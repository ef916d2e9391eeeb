"""What a run decides where the settings leave it open."""

from typing import Any, cast

import pytest
import timm
import torch

from ramda_cli.config.schema import RunConfig
from ramda_cli.pipeline.decisions import decide_training
from ramda_cli.structure import discover

NAMES = {"vit": "vit_tiny_patch16_224", "resnet": "resnet18", "sk": "skresnet18"}


@pytest.mark.parametrize(
    ("name", "given", "step_size"),
    [
        ("vit", None, 1e-4),
        ("vit", 2e-3, 2e-3),
        ("resnet", None, 1e-3),
        ("resnet", 2e-3, 2e-3),
        ("sk", None, 1e-3),
    ],
)
def test_the_step_size_suits_the_model_unless_it_is_given(
    name: str, given: float | None, step_size: float
) -> None:
    arguments: dict[str, Any] = {"img_size": 32, "depth": 1} if name == "vit" else {}
    model = timm.create_model(NAMES[name], **arguments).eval()
    config = RunConfig.model_validate(
        {
            "model": {"name": "m"},
            "data": {"name": "d"},
            "target": {"macs": 0.5},
            "training": {"lr": given, "distill": 0.0},
        }
    )
    # Heads that are kept are an attention too, and the softmax of selective kernels is none.
    structure = discover(model, torch.zeros(2, 3, 32, 32), keep=["*attn*"])
    decided, notes = decide_training(
        config, cast(Any, None), structure, cast(Any, None), device=torch.device("cpu")
    )
    assert decided.step_size == step_size
    assert notes == (
        ("the step size is 0.0001, as the model has attention; --lr sets it",)
        if (name, given) == ("vit", None)
        else ()
    )
    assert config.training.lr == given


def test_fp16_on_a_cpu_is_told() -> None:
    model = timm.create_model("resnet18").eval()
    config = RunConfig.model_validate(
        {
            "model": {"name": "m"},
            "data": {"name": "d"},
            "target": {"macs": 0.5},
            "training": {"lr": 1e-3, "distill": 0.0, "precision": "fp16"},
        }
    )
    structure = discover(model, torch.zeros(2, 3, 32, 32))
    nothing = cast(Any, None)
    _, notes = decide_training(config, nothing, structure, nothing, device=torch.device("cpu"))
    assert notes == ("fp16 is for GPUs, and far slower on a cpu: --precision bf16 or fp32",)
