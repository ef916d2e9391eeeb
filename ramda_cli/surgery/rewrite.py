"""Rewrite the exported graph for fewer channels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from ramda_cli.structure.labels import Mask
from ramda_cli.structure.support import named_tensors
from ramda_cli.structure.trace import Trace, arguments, operator_name
from ramda_cli.surgery.context import RewriteContext
from ramda_cli.surgery.kept import KeptPositions
from ramda_cli.surgery.operators import REWRITES
from ramda_cli.surgery.program import (
    GraphModel,
    GraphProgram,
    drop_unused,
    operation_of,
    references,
    to_references,
)


def rewrite_program(model: nn.Module, traced: Trace, kept: KeptPositions) -> GraphModel:
    """Return a module that computes what a program computes, with only the kept positions.

    Args:
        model: whose parameters and buffers are sliced; it is left as it is.
        traced: the program that was exported from it.
        kept: what stays.
    """
    context = RewriteContext(traced.values, kept)
    for node in traced.program.graph.nodes:
        if node.op == "call_function" and node.meta.get("val") is not None:
            rewriting = REWRITES.get(operator_name(node.target))
            context.operations.append(
                operation_of(node) if rewriting is None else rewriting(context, node)
            )
    program = _program(traced, context)
    return _with_tensors(program, model, traced, context)


def slice_tensor(tensor: Tensor, masks: Sequence[Mask | None]) -> Tensor:
    """Return a copy with only the kept positions of every dimension."""
    kept = tensor.clone() if all(mask is None for mask in masks) else tensor
    for dim, mask in enumerate(masks):
        if mask is not None:
            positions = torch.from_numpy(np.flatnonzero(mask)).to(tensor.device)
            kept = kept.index_select(dim, positions)
    return kept.contiguous()


def _program(traced: Trace, context: RewriteContext) -> GraphProgram:
    """Return the new graph without what its output does not need."""
    exported = traced.program
    inputs: list[str] = []
    tensors = {name: name for name in context.constants}
    for spec in exported.graph_signature.input_specs:
        name = getattr(spec.arg, "name", None)
        if spec.kind == InputKind.USER_INPUT:
            if name is not None:
                inputs.append(name)
        elif name is not None and spec.target is not None:
            tensors[name] = traced.aliases.get(spec.target, spec.target)
    output = _output(exported)
    operations = drop_unused(context.operations, output)
    used = {name for o in operations for name in references([o.args, dict(o.kwargs)])}
    used |= set(references(output))
    tensors = {name: target for name, target in tensors.items() if name in used}
    keywords = tuple(exported.example_inputs[1])
    return GraphProgram(tuple(inputs), tensors, operations, output, keywords)


def _output(exported: ExportedProgram) -> Any:
    node = next(n for n in exported.graph.nodes if n.op == "output")
    results = zip(exported.graph_signature.output_specs, arguments(node)[0], strict=True)
    flat = [to_references(one) for spec, one in results if spec.kind == OutputKind.USER_OUTPUT]
    return pytree.tree_unflatten(flat, exported.call_spec.out_spec)


def _with_tensors(
    program: GraphProgram, model: nn.Module, traced: Trace, context: RewriteContext
) -> GraphModel:
    """Give the program the kept parts of the model's tensors, and its own constants."""
    exported = traced.program
    state = {**exported.constants, **named_tensors(model)}
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    trainable = set(exported.graph_signature.parameters)
    parameters: dict[str, Tensor] = {}
    buffers: dict[str, Tensor] = {}
    for target in dict.fromkeys(program.tensors.values()):
        if target in context.constants:
            buffers[target] = context.constants[target].to(device)
            continue
        tensor = state[target]
        value = traced.parameters.get(target)
        masks = () if value is None else context.kept.masks(value)
        kept = slice_tensor(tensor.detach(), masks)
        if target in trainable:
            parameters[target] = kept.requires_grad_(tensor.requires_grad)
        else:
            buffers[target] = kept
    return GraphModel(program, parameters, buffers)
