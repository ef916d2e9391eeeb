"""Models whose parameters are spread over processes: PyTorch's FSDP2.

Every process holds some rows of each parameter, of its gradient and of the optimizer's state, and
gathers those of a layer while it computes it.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from ramda_cli.optimizers.shards import local, part_here, whole
from ramda_cli.training.processes import Processes


def shard_(model: nn.Module, processes: Processes, device: torch.device) -> nn.Module:
    """Spread a model over all processes, in place, and return it.

    What is gathered at a time is an element of a list or a sequence of layers, and what is in none.

    Args:
        model: on the CPU: a layer is moved to the device when it is sharded, so that the whole is
            never there.
        processes: all of which call this.
        device: of this one.
    """
    mesh = init_device_mesh(device.type, (processes.count,))
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList | nn.Sequential)]
    layers = dict.fromkeys(child for each in lists for child in each.children())
    for layer in reversed([*layers]):  # the inner ones first
        if any(True for _ in layer.parameters()) and not isinstance(layer, FSDPModule):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def is_sharded(model: nn.Module) -> bool:
    """Tell whether `shard_` has spread a model."""
    return isinstance(model, FSDPModule)


@torch.no_grad()
def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's state dict; of a sharded one whole, on the CPU, and in all processes."""
    state = model.state_dict()
    if not is_sharded(model):
        return state
    return {name: whole(tensor, tensor).cpu() for name, tensor in state.items()}


@torch.no_grad()
def load_whole_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what `whole_state` returned."""
    if not is_sharded(model):
        model.load_state_dict(state)
        return
    for name, tensor in model.state_dict().items():
        local(tensor).copy_(part_here(state[name], tensor))
