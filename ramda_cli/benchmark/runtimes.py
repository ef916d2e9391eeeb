"""What runs a model: torch eagerly, torch.compile, or ONNX Runtime."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ramda_cli.export import OnnxModel, export_onnx
from ramda_cli.tasks.inputs import ExampleInputs, split_inputs

Runtime = Literal["eager", "compile", "onnx"]
Runner = Callable[[ExampleInputs], object]
"""Runs one batch to its end."""


def torch_runner(module: nn.Module, *, device: torch.device, compiled: bool) -> Runner:
    """Return what runs a module in evaluation mode; the module itself stays where it is."""
    on_cpu = all(p.device.type == "cpu" for p in module.parameters())
    held = module if on_cpu and device.type == "cpu" else copy.deepcopy(module).to(device)
    # A compiled program for each batch size: one of free size is slower.
    call = torch.compile(held, dynamic=False) if compiled else held

    def run(batch: ExampleInputs) -> None:
        args, kwargs = split_inputs(batch)
        call(*args, **kwargs)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def onnx_runner(
    module: nn.Module, example_inputs: ExampleInputs, path: Path, *, threads: int
) -> Runner:
    """Write a module as ONNX and return what runs it in ONNX Runtime on the CPU.

    Raises:
        OutputError: it cannot be exported or opened.
        StructureError: torch.export does not take it.
    """
    export_onnx(module, path, example_inputs)
    session = OnnxModel(path, threads=threads)
    return lambda batch: session(
        [leaf for leaf in pytree.tree_leaves(split_inputs(batch)) if isinstance(leaf, Tensor)]
    )


@contextlib.contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """Let torch use so many threads on the CPU inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
