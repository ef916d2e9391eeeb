"""What removal promises, checked on numbers alone, with no look at how discovery works.

A channel is removable when, with its penalized entries at zero, nothing that makes it can move the
output. So `check_channels` zeroes one channel, disturbs whatever makes it, and watches which inputs
of which layers move. `check_removal` zeroes many, removes them and compares outputs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ramda_cli.structure import DependencyGroup, Structure, discover, identify, zero_
from ramda_cli.structure.support import named_tensors
from ramda_cli.surgery import RemovalPlan, remove

TOLERANCE = 1e-9


class Net(nn.Module):
    """Modules and parameters by name, and a function of (self, x)."""

    def __init__(self, function: Callable[[Any, Tensor], Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


@dataclass(frozen=True)
class Removed:
    """A model before and after."""

    structure: Structure
    smaller: nn.Module
    plan: RemovalPlan

    @property
    def channels(self) -> dict[str, int]:
        """Channels by group."""
        return {group.name: group.channels for group in self.structure.groups}

    def reasons(self, name: str) -> list[str]:
        """Why the channels with this name are fixed."""
        return [fixed.reason for fixed in self.structure.fixed if fixed.name == name]


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape))


def inputs(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@torch.no_grad()
def randomize_(model: nn.Module, seed: int = 0, *, buffers: str = "") -> nn.Module:
    """Give every parameter and buffer a value that matters; variances stay positive.

    Of the buffers only those with `buffers` in their name: others may be bounds or tables.
    """
    generator = torch.Generator().manual_seed(seed)
    others = {name for name, _ in model.named_buffers() if buffers not in name}
    for name, tensor in named_tensors(model.double().eval()).items():
        if not tensor.is_floating_point() or name in others:
            continue
        noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        if "var" in name:
            tensor.copy_(0.5 + noise.abs())
        else:
            tensor.copy_(noise / max(1, tensor[0].numel() if tensor.ndim > 1 else 1) ** 0.5)
    return model


def choose(structure: Structure, share: float, seed: int = 0) -> dict[str, list[int]]:
    """Return a random share of the channels of every group, at least one, never all."""
    generator = np.random.default_rng(seed)
    chosen = {}
    for group in structure.groups:
        count = min(max(1, round(share * group.channels)), group.channels - 1)
        if count > 0:
            picked = generator.choice(group.channels, count, replace=False)
            chosen[group.name] = sorted(picked.tolist())
    return chosen


def check_removal(
    model: nn.Module, example: Any, *more: Any, share: float = 0.5, moves: bool = True
) -> Removed:
    """Remove channels of every group: the outputs must not change, at `more` inputs neither."""
    randomize_(model)
    structure = discover(model, example)
    assert structure.groups
    if moves:
        check_channels(model, structure, example)
    chosen = choose(structure, share)
    zero_(model, structure, chosen)
    support = identify(model, structure)
    assert support.removable == chosen
    assert support.held == {}
    smaller, plan = remove(model, structure, support)
    assert elements(smaller) < elements(model)
    for one in (example, *more):
        assert_equal(call(model, one), call(smaller, one))
    return Removed(structure, smaller, plan)


def elements(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def call(model: nn.Module, example: Any) -> Any:
    if isinstance(example, Mapping):
        return model(**example)
    return model(*example) if isinstance(example, tuple) else model(example)


def assert_equal(expected: Any, actual: Any, tolerance: float = TOLERANCE) -> None:
    one, structure = pytree.tree_flatten(expected)
    other, other_structure = pytree.tree_flatten(actual)
    assert structure == other_structure
    for a, b in zip(one, other, strict=True):
        assert a.shape == b.shape
        assert torch.isfinite(a).all()
        assert (a.double() - b.double()).abs().max() <= tolerance * a.double().abs().max()


@torch.no_grad()
def check_channels(model: nn.Module, structure: Structure, example: Any, seed: int = 0) -> None:
    """Disturb what makes a zeroed channel: no output moves, and of its readers' inputs its own."""
    generator = np.random.default_rng(seed)
    before = {name: tensor.clone() for name, tensor in named_tensors(model).items()}
    for group in structure.groups:
        channel = int(generator.integers(group.channels))
        zero_(model, structure, {group.name: [channel]})
        still = _record(model, example)
        moved: dict[str, set[int]] = {}
        for attempt in range(6):
            _disturb(model, group, channel, seed=attempt)
            for name, positions in _moved(still, _record(model, example)).items():
                moved.setdefault(name, set()).update(positions)
        _restore(model, before)
        assert moved.pop("output") == set(), f"{group.name}[{channel}] moves the output"
        if len(group.coupled) > len(group.penalized):
            assert moved == _readers(model, group, channel), f"{group.name}[{channel}]"


def _readers(model: nn.Module, group: DependencyGroup, channel: int) -> dict[str, set[int]]:
    """Return, for every ungrouped layer that reads the group, the input positions of a channel."""
    readers = {name: set[int]() for name, _ in _plain_layers(model)}
    for part in group.penalized:
        module = part.parameter.removesuffix(".weight")
        if module in readers:
            readers[module] = set(part.indices[channel].tolist())
    return readers


def _plain_layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the layers whose weights read their input along dimension 1, each weight once."""
    layers: list[tuple[str, nn.Module]] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) or (
            isinstance(module, nn.Conv2d) and module.groups == 1 and module.in_channels > 1
        ):
            layers.append((name, module))
    return layers


def _record(model: nn.Module, example: Any) -> dict[str, Tensor]:
    """Return the output, and each plain layer's input with its channels first."""
    seen: dict[str, Tensor] = {}
    handles = []
    for name, module in _plain_layers(model):

        def hook(module: nn.Module, args: tuple[Tensor, ...], name: str = name) -> None:
            axis = -1 if isinstance(module, nn.Linear) else 1
            seen[name] = args[0].movedim(axis, 0).flatten(1)

        handles.append(module.register_forward_pre_hook(hook))
    leaves = pytree.tree_leaves(call(model, example))
    for handle in handles:
        handle.remove()
    seen["output"] = torch.cat([leaf.flatten() for leaf in leaves]).unsqueeze(1)
    return seen


def _moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, set[int]]:
    moved = {}
    for name, old in before.items():
        difference = (after[name] - old).abs().amax(dim=1) > 1e-9 * old.abs().max()
        moved[name] = set(difference.nonzero().flatten().tolist())
    return moved


def _disturb(model: nn.Module, group: DependencyGroup, channel: int, *, seed: int) -> None:
    """Change all entries of a channel that are not penalized, every second time downwards."""
    scale = (1 - 2 * (seed % 2)) * (1 + 2 * seed)
    generator = torch.Generator().manual_seed(seed)
    tensors = named_tensors(model)
    read = {(part.parameter, part.dim) for part in group.penalized}
    for part in group.coupled:
        if (part.parameter, part.dim) in read:
            continue
        tensor = tensors[part.parameter]
        rows = tensor.movedim(part.dim, 0)
        for position in part.indices[channel].tolist():
            noise = torch.rand(rows[position].shape, generator=generator, dtype=tensor.dtype)
            zero = rows[position] == 0
            rows[position] = torch.where(zero, rows[position], rows[position] + scale * (1 + noise))


def _restore(model: nn.Module, before: Mapping[str, Tensor]) -> None:
    for name, tensor in named_tensors(model).items():
        tensor.copy_(before[name])


def indices_of(parts: Sequence[Any], parameter: str, dim: int) -> list[list[int]]:
    """Return the positions of every channel in one slice."""
    return next(p.indices.tolist() for p in parts if (p.parameter, p.dim) == (parameter, dim))
