"""What a run decides for itself where the settings leave it open, and tells."""

import torch

from ramda_cli.config.schema import RunConfig, TrainingConfig
from ramda_cli.data.bundle import DataBundle
from ramda_cli.models.loaded import LoadedModel
from ramda_cli.pipeline.devices import has_bfloat16
from ramda_cli.structure import Structure
from ramda_cli.structure.kinds import has_attention
from ramda_cli.training.teacher import can_teach

_DISTILLATION = 0.9
_ATTENTION_LR = 1e-4


def decide_training(
    config: RunConfig,
    loaded: LoadedModel,
    structure: Structure,
    data: DataBundle,
    *,
    device: torch.device,
) -> tuple[TrainingConfig, tuple[str, ...]]:
    """Return the settings of training with what was left open decided, and notes for the user."""
    training, notes = config.training, []
    if training.lr is None and has_attention(structure):
        training = training.model_copy(update={"lr": _ATTENTION_LR})
        notes.append(
            f"the step size is {_ATTENTION_LR:g}, as the model has attention; --lr sets it"
        )
    if _learns_from_teacher(config, loaded, data, device):
        training = training.model_copy(update={"distill": _DISTILLATION})
        notes.append(
            f"the dense model's outputs weigh {_DISTILLATION} in the loss; --distill sets how much"
        )
    if training.precision == "bf16" and not has_bfloat16(device):
        notes.append(
            f"this {device.type} has no bfloat16 of its own and is far slower in it:"
            " --precision fp32"
        )
    if training.precision == "fp16" and device.type == "cpu":
        notes.append("fp16 is for GPUs, and far slower on a cpu: --precision bf16 or fp32")
    return training, tuple(notes)


def _learns_from_teacher(
    config: RunConfig, loaded: LoadedModel, data: DataBundle, device: torch.device
) -> bool:
    if config.training.distill is not None or config.target is None or loaded.new_head:
        return False
    module = loaded.module.to(device)
    teaches = can_teach(module, data.task, data.val, device=device)
    module.to("cpu")
    return teaches
