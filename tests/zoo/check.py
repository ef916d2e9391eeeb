"""Everything that is promised of a model, measured on one: discovery, removal, training, files."""

import copy
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ramda_cli.errors import RamdaError
from ramda_cli.export import OnnxModel, export_onnx, load, save
from ramda_cli.models.loaded import ModelSource
from ramda_cli.structure import Structure, Support, identify, zero_
from ramda_cli.structure.cost import CostModel
from ramda_cli.structure.discover import discover_channels
from ramda_cli.structure.export import evaluation_mode, export_graph
from ramda_cli.structure.float64 import float64_throughout
from ramda_cli.surgery import RemovalPlan, remove
from tests.structure.exactness import choose, elements, randomize_

SHARE = 0.3
SEEDS = (0, 1, 2)
EXACT = 1e-9
ONNX_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Checked:
    """What was seen.

    Attributes:
        groups, channels, fixed: what discovery found; `fixed` maps reasons to channels.
        params_share, macs_share: what lies in removable groups.
        error: largest difference over outputs and seeds, relative, in float64.
        moved: smallest effect of the zeroing on the outputs, relative.
        layout: of the saved file.
        submodules: classes that run as graphs within it, with how many.
        trains: whether it took a training step, was saved, loaded and was equal.
        onnx: largest relative difference of the ONNX file, or why there is none.
        onnx_dense: the same of the dense model, where the smaller one has none.
        export_s, discover_s, remove_s: seconds.
        tokens: whether generation gives the same tokens; None where nothing is generated.
    """

    groups: int
    channels: int
    fixed: Mapping[str, int]
    params_share: float
    macs_share: float
    error: float
    moved: float
    layout: str
    submodules: Mapping[str, int]
    trains: bool
    onnx: float | str
    onnx_dense: str
    export_s: float
    discover_s: float
    remove_s: float
    tokens: bool | None = None


def check(
    model: nn.Module,
    inputs: Any,
    directory: Path,
    *,
    source: ModelSource | None = None,
    generates: str = "",
    onnx: bool = True,
) -> Checked:
    """Measure one model, whose parameters and BatchNorm statistics are randomized in place."""
    randomize_(model, buffers="running_").float()
    started = time.perf_counter()
    program = export_graph(model, inputs)
    exported = time.perf_counter()
    structure = discover_channels(program)
    discovered = time.perf_counter()
    shares = _shares(structure)
    error, moved, smallest = 0.0, np.inf, np.inf
    for seed in SEEDS:
        zeroed = copy.deepcopy(model)
        zero_(zeroed, structure, choose(structure, SHARE, seed))
        support = identify(zeroed, structure)
        if _zero_channels(support) != choose(structure, SHARE, seed):
            raise AssertionError("identify finds other channels than were zeroed")
        start = time.perf_counter()
        smaller, plan = remove(zeroed, structure, support, source=source)
        smallest = min(smallest, time.perf_counter() - start)
        if elements(smaller) >= elements(model):
            raise AssertionError("nothing became smaller")
        expected, before = exact_outputs(zeroed, inputs), exact_outputs(model, inputs)
        error = max(error, difference(expected, exact_outputs(smaller, inputs)))
        moved = min(moved, difference(before, expected))
    tokens = _same_tokens(zeroed, smaller, inputs, generates) if generates else None
    trains, layout = _trains(smaller, plan, inputs, directory / "model.safetensors")
    agrees = _onnx(smaller, inputs, directory / "model.onnx") if onnx else "not tried"
    dense = ""
    if onnx and not (isinstance(agrees, float) and agrees <= ONNX_TOLERANCE):
        dense = str(_onnx(model, inputs, directory / "dense.onnx"))
    fixed: dict[str, int] = {}
    for one in structure.fixed:
        reason = one.reason.split(" at ")[0]
        fixed[reason] = fixed.get(reason, 0) + one.channels
    return Checked(
        groups=len(structure.groups),
        channels=sum(group.channels for group in structure.groups),
        fixed=dict(sorted(fixed.items(), key=lambda item: -item[1])),
        params_share=shares[0],
        macs_share=shares[1],
        error=error,
        moved=float(moved),
        layout=layout,
        submodules=dict(
            Counter(type(model.get_submodule(path)).__name__ for path in plan.submodules)
        ),
        trains=trains,
        onnx=agrees,
        onnx_dense=dense,
        export_s=exported - started,
        discover_s=discovered - exported,
        remove_s=smallest,
        tokens=tokens,
    )


def _zero_channels(support: Support) -> dict[str, list[int]]:
    names = {*support.removable, *support.held}
    both = ((support.removable.get(n, []), support.held.get(n, [])) for n in names)
    return {n: sorted([*one, *other]) for n, (one, other) in zip(names, both, strict=True)}


@torch.no_grad()
def exact_outputs(model: nn.Module, inputs: Any) -> list[Tensor]:
    """Return the floating-point outputs in float64."""
    wide = copy.deepcopy(model).double()
    with evaluation_mode(wide), float64_throughout():
        return outputs(wide, pytree.tree_map(_wide, inputs))


def outputs(model: nn.Module, inputs: Any) -> list[Tensor]:
    result = model(**inputs) if isinstance(inputs, Mapping) else model(inputs)
    leaves = pytree.tree_leaves(result)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def difference(expected: list[Tensor], actual: list[Tensor]) -> float:
    """Return the largest difference, per largest output of each; infinite where one is not."""
    worst = 0.0
    for one, other in zip(expected, actual, strict=True):
        if one.shape != other.shape or not torch.isfinite(one).all():
            return float("inf")
        scale = float(one.abs().max()) or 1.0
        worst = max(worst, float((one - other).abs().max()) / scale)
    return worst if worst == worst else float("inf")


def _wide(leaf: Any) -> Any:
    return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


def _shares(structure: Structure) -> tuple[float, float]:
    """Return the shares of parameters and MACs that go when all removable channels do."""
    cost = CostModel(structure)
    dense, nothing = cost.size(), cost.size(np.zeros_like(cost.channels))
    macs = 1 - nothing.macs / dense.macs if dense.macs else 0.0
    return 1 - nothing.params / dense.params, macs


def _trains(smaller: nn.Module, plan: RemovalPlan, inputs: Any, path: Path) -> tuple[bool, str]:
    """Take a training step, save, load, and compare."""
    trained = copy.deepcopy(smaller).train()
    parameters = [p for p in trained.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-4)
    before = [p.detach().clone() for p in parameters]
    sum(output.float().square().mean() for output in outputs(trained, inputs)).backward()
    with_gradient = sum(p.grad is not None for p in parameters)
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    changed = sum(not torch.equal(old, new) for old, new in zip(before, parameters, strict=True))
    trained.eval()
    layout = save(trained, plan, path)
    again = load(path)
    same = difference(exact_outputs(trained, inputs), exact_outputs(again, inputs)) <= EXACT
    return same and changed > 0 and with_gradient > 0, layout


@torch.no_grad()
def _onnx(model: nn.Module, inputs: Any, path: Path) -> float | str:
    """Return how much ONNX Runtime differs in float32, or why it cannot run."""
    try:
        export_onnx(model, path, inputs)
        run = OnnxModel(path)
        leaves = pytree.tree_leaves(inputs)
        actual = run([leaf for leaf in leaves if isinstance(leaf, Tensor)])
    except RamdaError as error:
        return str(error).replace(str(path), path.name)[:200]
    expected = outputs(model.eval(), inputs)
    actual = [one for one in actual if one.is_floating_point()]
    return difference(expected, actual[: len(expected)])


@torch.no_grad()
def _same_tokens(one: nn.Module, other: nn.Module, inputs: Any, kind: str) -> bool:
    names = {"input_ids", "attention_mask", "input_features"}
    given = {name: tensor for name, tensor in inputs.items() if name in names}
    settings = {"max_new_tokens": 8, "do_sample": False}
    made = [model.eval().generate(**given, **settings) for model in (one, other)]  # type: ignore[operator]
    return torch.equal(*made)
